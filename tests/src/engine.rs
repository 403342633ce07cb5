//! A container engine for tests: dockerd, started by hand as root, with its own socket, data and cgroups below a
//! temporary directory. It knows nothing about servers and their calls.
//!
//! The engine runs in its own namespaces of processes and mounts, and on a tmpfs as `/run`. Its end, also by a kill, is
//! therefore the end of all of its containers and mounts. The network is that of the machine, so that published ports
//! are found on 127.0.0.1.

use crate::{
    PATIENCE,
    program::{output_of_tool, piped, printed, text, worked},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// One engine at a time: each is many processes, and takes addresses of the machine.
static PLACE: Mutex<()> = Mutex::new(());

/// Programs that the engine and its images need, all of Debian.
const PROGRAMS: [&str; 8] = ["dockerd", "docker", "docker-compose", "busybox", "unshare", "setpriv", "ip", "tar"];

/// The line of the log with which the engine is ready.
const READY: &str = "API listen on";

#[derive(Debug)]
pub struct Engine {
    /// The program that has made the namespaces, and waits for the engine in them.
    outside: Child,
    /// The engine itself: the first process of its namespace, so that its end kills all others.
    inside: Pid,
    name: String,
    directory: TempDir,
    _place: MutexGuard<'static, ()>,
}

impl Engine {
    /// Starts an engine without images. `None`, with a message, if this machine cannot have one; CI must have one.
    pub fn start() -> Option<Self> {
        let missing = PROGRAMS.into_iter().find(|program| on_the_path(program).is_none());
        let why = match missing {
            _ if !rustix::process::geteuid().is_root() => "root".to_owned(),
            Some(program) => format!("{program}: run `make engine` to install it"),
            None => return Some(Self::started()),
        };
        assert!(env::var("CI").as_deref() != Ok("true"), "there is no container engine, for want of {why}");
        let test = thread::current();
        eprintln!("SKIPPED: {}, for want of {why}", test.name().unwrap_or_default());
        None
    }

    fn started() -> Self {
        // A failed test leaves no engine behind, so that the next one can start.
        let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = TempDir::with_prefix("distillery-engine-").expect("a directory for the engine");
        let name = directory.path().file_name().and_then(|it| it.to_str()).expect("a plain name").to_owned();
        let mut outside = spawn(directory.path(), &name);
        let log = outside.stderr.take().expect("it has a stderr");
        wait_until_ready(log);
        let inside = only_child(&outside);
        Self { outside, inside, name, directory, _place: place }
    }

    /// Returns the directory of the engine, which is removed with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the environment in which `docker` and `docker-compose` speak to this engine.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        let home = self.directory.path().join("home").display().to_string();
        let host = format!("unix://{}", self.directory.path().join("docker.sock").display());
        // The client of the same package first: another one can lack the builder.
        let path = format!("/usr/bin:{}", env::var("PATH").unwrap_or_default());
        [("DOCKER_HOST", host), ("DOCKER_CONFIG", home.clone()), ("HOME", home), ("PATH", path)]
    }

    /// Returns a program that speaks to this engine.
    pub fn command(&self, program: &str) -> Command {
        // Through `env`, which looks for the program in that environment.
        let mut command = Command::new("env");
        command.arg(program).envs(self.environment());
        command
    }

    /// Runs `docker`, which must succeed, and returns its output without the newline at the end.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        worked(&output_of_tool(self.command("docker").args(arguments)))
    }

    /// Makes an image of all files in a directory. `changes` are lines as in a Dockerfile.
    pub fn import(&self, image: &str, root: &Path, changes: &[&str]) {
        let archive = output_of_tool(Command::new("tar").arg("--create").arg("--directory").arg(root).arg("."));
        assert!(archive.status.success(), "{}", text(&archive.stderr));
        let changes = changes.iter().flat_map(|change| ["--change", change]);
        let mut import = self.command("docker");
        import.arg("import").args(changes).args(["-", image]);
        printed(&piped(&mut import, archive.stdout));
    }

    /// Makes the image `busybox:test`: a static busybox under all of its names.
    pub fn import_busybox(&self) -> &'static str {
        let root = TempDir::with_prefix("distillery-busybox-").expect("a directory for the image");
        let bin = root.path().join("bin");
        fs::create_dir(&bin).expect("a directory for programs");
        fs::create_dir(root.path().join("tmp")).expect("a directory for files");
        let busybox = on_the_path("busybox").expect("it was found before");
        fs::copy(&busybox, bin.join("busybox")).expect("a copy of busybox");
        for name in printed(&output_of_tool(Command::new(busybox).arg("--list"))).lines() {
            if name != "busybox" {
                symlink("busybox", bin.join(name)).expect("another name of busybox");
            }
        }
        self.import("busybox:test", root.path(), &["ENV PATH=/bin"]);
        "busybox:test"
    }

    /// Returns all containers, volumes and networks, except for the networks that every engine has.
    pub fn everything(&self) -> Vec<String> {
        let list = |kind: &str, arguments: &[&str]| {
            let names = self.docker(arguments);
            names.lines().map(|name| format!("{kind} {name}")).collect::<Vec<_>>()
        };
        let containers = list("container", &["ps", "--all", "--format", "{{.Names}}"]);
        let volumes = list("volume", &["volume", "ls", "--format", "{{.Name}}"]);
        let networks = list("network", &["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"]);
        [containers, volumes, networks].concat()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let bridges =
            output_of_tool(self.command("docker").args(["network", "ls", "--quiet", "--filter", "type=custom"]));
        // Only when all processes of its namespace have ended does the first of them end.
        _ = kill_process(self.inside, Signal::KILL);
        _ = self.outside.wait();
        for id in text(&bridges.stdout).lines() {
            output_of_tool(Command::new("ip").args(["link", "delete", &format!("br-{id}")]));
        }
        for group in cgroups(&self.name) {
            remove_cgroup(&group);
        }
    }
}

fn spawn(directory: &Path, name: &str) -> Child {
    let inside = |path: &str| directory.join(path).display().to_string();
    // Its own addresses, as engines of other test programs can run at the same time.
    let pool = format!("base=10.{}.0.0/16,size=24", 100 + std::process::id() % 100);
    let mut command = Command::new("setpriv");
    // If the test is killed, the kernel kills this, and then what it has started.
    command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc"]);
    command.args(["sh", "-c", "mount -t tmpfs run /run && exec dockerd \"$@\"", "sh"]);
    command.args(["--host", &format!("unix://{}", inside("docker.sock"))]);
    command.args(["--data-root", &inside("data"), "--exec-root", &inside("exec"), "--pidfile", &inside("pid")]);
    // Changes nothing of the machine: no bridge, no firewall, no routing.
    command.args(["--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]);
    command.args(["--default-address-pool", &pool]);
    command.args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &format!("/{name}")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("the engine can be started")
}

/// Waits until the engine takes connections, and goes on reading its log, which must always have a reader.
fn wait_until_ready(log: ChildStderr) {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let mut said = Vec::new();
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if line.contains(READY) {
                _ = ready.send(Ok(()));
            }
            if said.len() < 200 {
                said.push(line);
            }
        }
        _ = ready.send(Err(said.join("\n")));
    });
    match is_ready.recv_timeout(PATIENCE) {
        Ok(Ok(())) => {}
        Ok(Err(said)) => panic!("the engine ended and said {said}"),
        Err(_) => panic!("waited {PATIENCE:?} in vain for the engine"),
    }
}

fn only_child(parent: &Child) -> Pid {
    let id = parent.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("the engine is running");
    children.trim().parse().ok().and_then(Pid::from_raw).expect("there is one engine")
}

fn on_the_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|it| it.join(program)).find(|it| it.is_file())
}

/// Returns the cgroups of this name: one, or one in each hierarchy of the first version.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path().join(name)));
    hierarchies.chain([root.join(name)]).filter(|group| group.is_dir()).collect()
}

#[expect(clippy::disallowed_methods, reason = "the kernel does not report when a cgroup has lost its last process")]
fn remove_cgroup(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    for _ in 0..100 {
        if fs::remove_dir(group).is_ok() || !group.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns everything on this machine that names the engine: processes, mounts, cgroups and files; and all bridges.
    fn remains(name: &str) -> Vec<String> {
        let named = |line: &&str| line.contains(name);
        let processes = text(&output_of_tool(Command::new("ps").args(["-eo", "args"])).stdout);
        let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
        let mut all: Vec<_> = processes.lines().chain(mounts.lines()).filter(named).map(str::to_owned).collect();
        all.extend(cgroups(name).iter().map(|group| group.display().to_string()));
        let files = fs::read_dir(env::temp_dir()).expect("the temporary files");
        all.extend(files.filter_map(|it| it.ok()?.file_name().into_string().ok()).filter(|it| it == name));
        let links = text(&output_of_tool(Command::new("ip").args(["-brief", "link"])).stdout);
        all.extend(links.lines().filter(|line| line.starts_with("br-") || line.starts_with("veth")).map(str::to_owned));
        all
    }

    #[test]
    fn engine_runs_containers_and_leaves_nothing() {
        let Some(engine) = Engine::start() else { return };
        let name = engine.name.clone();
        let image = engine.import_busybox();
        assert_eq!(engine.docker(&["run", "--rm", "--network", "none", image, "echo", "hello"]), "hello");
        engine.docker(&["network", "create", "net"]);
        engine.docker(&["volume", "create", "data"]);
        let run = ["run", "--detach", "--name", "web", "--network", "net", "--volume", "data:/data"];
        engine.docker(
            &[&run[..], &["--publish", "127.0.0.1::80", image, "httpd", "-f", "-p", "80", "-h", "/bin"]].concat(),
        );
        let address = engine.docker(&["port", "web", "80"]);
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        assert_eq!(engine.docker(&["exec", "web", "echo", "inside"]), "inside");
        assert_eq!(engine.everything(), ["container web", "volume data", "network net"]);
        assert!(remains(&name).len() > 4);
        drop(engine);
        assert_eq!(remains(&name), [""; 0]);
    }
}
