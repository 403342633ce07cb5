//! A browser for tests: Debian's Chromium, driven over WebDriver by its own driver. It finds elements as people do, by
//! their text, and knows nothing about the purpose of the pages.

use crate::{PATIENCE, http::exchange, patiently};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
};

/// Concurrent browsers: each is several processes, and the machine runs other tests.
static PLACES: Semaphore = Semaphore::const_new(2);

/// The checker for accessibility errors of the pages.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/toolchains/browser/node_modules/axe-core/axe.min.js");

/// Runs before the page: counts violations of the policy of the page, and makes its sockets available.
const WATCH: &str = "window.violations = [];
    window.sockets = [];
    window.WebSocket = class extends WebSocket {
        constructor(...of) { super(...of); sockets.push(this); }
    };
    document.addEventListener('securitypolicyviolation', ({violatedDirective, blockedURI}) =>
        violations.push(`${violatedDirective} ${blockedURI}`));";

/// Locates a control with this role and this name.
const FIND: &str = r#"
    const [role, name] = arguments;
    const said = (it) => it.getAttribute("aria-label") ?? (it.labels?.[0] ?? it).textContent;
    const shown = (it) => it.checkVisibility({ visibilityProperty: true });
    const scope = document.querySelector("dialog[open]") ?? document;
    const found = [...scope.querySelectorAll(role)].filter((it) => shown(it));
    const exact = found.find((it) => said(it).trim() === name);
    return exact ?? found.find((it) => said(it).trim().startsWith(name)) ?? null;
"#;

/// Attempts to start a browser. No test is about the browser itself, and its driver sometimes ends before it listens:
/// it takes a free port of IPv4, and then needs the same one of IPv6, which another test can have.
const ATTEMPTS: usize = 5;

#[derive(Debug)]
pub struct Browser {
    driver: Driver,
    session: String,
    /// The browser itself, which its driver would leave behind.
    browser: Option<Pid>,
    // The browser has no other home, so that nothing of one test remains for the next.
    _home: TempDir,
    _place: SemaphorePermit<'static>,
}

/// The colour scheme of the user's system.
#[derive(Clone, Copy, Debug)]
pub enum Scheme {
    Light,
    Dark,
}

impl Browser {
    /// Starts a browser with a window of 1280 pixels. `None`, with a message, if this machine has none; CI must have
    /// one.
    pub async fn open() -> Option<Self> {
        let missing = [
            (on_the_path("chromium").is_none(), "chromium"),
            (on_the_path("chromedriver").is_none(), "chromedriver"),
            (!PathBuf::from(AXE).is_file(), "axe-core"),
        ];
        if let Some((_, what)) = missing.iter().find(|(is, _)| *is) {
            assert!(env::var("CI").as_deref() != Ok("true"), "there is no {what}: run `make browser`");
            let test = std::thread::current();
            let test = test.name().unwrap_or_default();
            eprintln!("SKIPPED: {test}, for want of {what}: run `make browser`");
            return None;
        }
        let place = PLACES.acquire().await.expect("it is never closed");
        let home = TempDir::with_prefix("distillery-browser-").expect("a directory for the browser");
        let mut attempt = 1;
        let (driver, started) = loop {
            match Self::start(&home).await {
                Ok(started) => break started,
                Err(why) if attempt < ATTEMPTS => eprintln!("the browser is started once more: {why}"),
                Err(why) => panic!("no browser after {ATTEMPTS} attempts: {why}"),
            }
            attempt += 1;
        };
        let session = started["sessionId"].as_str().expect("a session").to_owned();
        let process = started["capabilities"]["goog:processID"].as_i64().and_then(|it| it.try_into().ok());
        let browser = process.and_then(Pid::from_raw);
        let browser = Self { driver, session, browser, _home: home, _place: place };
        browser.tell("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WATCH })).await;
        browser.tell("Performance.enable", json!({ "timeDomain": "threadTicks" })).await;
        browser.window(1280, 860).await;
        Some(browser)
    }

    /// Starts a driver and a browser, and returns the driver and its description of the browser.
    async fn start(home: &TempDir) -> Result<(Driver, Value), String> {
        let driver = Driver::start(home).await?;
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--no-first-run",
                "--window-size=1280,860",
            ] },
            "timeouts": { "script": PATIENCE.as_millis() as u64 },
        } } });
        let started = driver.send(Method::POST, "/session", &capabilities).await?;
        Ok((driver, started))
    }

    /// Opens a page, and waits until it has replaced the previous one. Within the same document the change takes a
    /// moment, in which a press would still reach the previous page.
    pub async fn go(&self, url: &str) {
        let mark = "const all = location.href === arguments[0] ? [] : document.querySelectorAll('h1');
                    for (const it of all) it.dataset.left = '';";
        self.run_with(mark, json!([url])).await;
        self.ask("url", json!({ "url": url })).await;
        self.until("the next page", "!document.querySelector('[data-left]')").await;
    }

    pub async fn reload(&self) {
        self.ask("refresh", json!({})).await;
    }

    /// Sets the size of the inside of the window.
    pub async fn window(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.tell("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub async fn prefer(&self, scheme: Scheme) {
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.tell("Emulation.setEmulatedMedia", features).await;
    }

    /// Returns the result of a function body of JavaScript on the page.
    pub async fn run(&self, script: &str) -> Value {
        self.run_with(script, json!([])).await
    }

    pub async fn run_with(&self, script: &str, arguments: Value) -> Value {
        self.ask("execute/sync", json!({ "script": script, "args": arguments })).await
    }

    /// Waits until an expression on the page has a value, and returns the value. Each frame evaluates the expression,
    /// also after a reload.
    pub async fn until(&self, what: &str, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const look = () => {{
                 let value;
                 try {{ value = {expression}; }} catch {{ value = false; }}
                 if (value) done(value); else requestAnimationFrame(look);
             }};
             look();"
        );
        let path = self.path("execute/async");
        loop {
            match self.send(Method::POST, &path, &json!({ "script": script, "args": [] })).await {
                Ok(value) => return value,
                // The page was replaced during the evaluation.
                Err(error) if error.contains("unloaded") || error.contains("navigat") => {}
                Err(error) => panic!("waited in vain for {what}: {error}; the page says: {}", self.text().await),
            }
        }
    }

    /// Waits until this text is visible on the page.
    pub async fn sees(&self, text: &str) {
        let quoted = json!(text).to_string();
        self.until(&format!("{text:?}"), &format!("document.body.innerText.includes({quoted})")).await;
    }

    /// Returns all visible text of the page.
    pub async fn text(&self) -> String {
        self.run("return document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Presses the button, or follows the link, with this name.
    pub async fn press(&self, name: &str) {
        self.click("button, a, summary", name).await;
    }

    /// Writes into the field with this name, and replaces its content.
    pub async fn write(&self, name: &str, text: &str) {
        self.act("input, textarea", name, &[("clear", json!({})), ("value", json!({ "text": text }))]).await;
    }

    pub async fn choose(&self, name: &str, choice: &str) {
        self.act("select", name, &[("value", json!({ "text": choice }))]).await;
    }

    pub async fn tick(&self, name: &str) {
        self.click("input", name).await;
    }

    async fn click(&self, role: &str, name: &str) {
        self.act(role, name, &[("click", json!({}))]).await;
    }

    /// Performs one action after the other on a control. A control that was recreated in the meantime is searched
    /// again, as people do without noticing.
    async fn act(&self, role: &str, name: &str, what: &[(&str, Value)]) {
        let acted = async {
            'again: loop {
                let Some(element) = self.find(role, name).await else { continue };
                for (act, body) in what {
                    match self.send(Method::POST, &self.path(&format!("element/{element}/{act}")), body).await {
                        Ok(_) => {}
                        Err(error) if error.contains("stale element") => continue 'again,
                        Err(error) => panic!("{act} of {name:?}: {error}"),
                    }
                }
                return;
            }
        };
        patiently(name, acted).await;
    }

    /// Waits for the control with this name. `None` if it disappeared at that moment.
    async fn find(&self, role: &str, name: &str) -> Option<String> {
        let arguments = json!([role, name]);
        let present = format!("(() => {{ const find = function () {{ {FIND} }}; return !!find(...{arguments}); }})()");
        self.until(&format!("a {role} that is named {name:?}"), &present).await;
        let found = self.run_with(FIND, arguments).await;
        Some(found.as_object()?.values().next()?.as_str()?.to_owned())
    }

    /// Types on the keyboard into the focused element. A name such as `Enter` or `Control+c` is one stroke.
    pub async fn stroke(&self, key: &str) {
        let keys: Vec<_> = key.split('+').map(code).collect();
        let down = keys.iter().map(|key| json!({ "type": "keyDown", "value": key }));
        let up = keys.iter().rev().map(|key| json!({ "type": "keyUp", "value": key }));
        self.keyboard(down.chain(up).collect()).await;
    }

    pub async fn type_text(&self, text: &str) {
        let strokes = text.chars().flat_map(|c| {
            [json!({ "type": "keyDown", "value": c.to_string() }), json!({ "type": "keyUp", "value": c.to_string() })]
        });
        self.keyboard(strokes.collect()).await;
    }

    async fn keyboard(&self, actions: Vec<Value>) {
        self.ask("actions", json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] })).await;
    }

    /// Returns the errors that axe finds on the page.
    pub async fn axe(&self) -> Vec<String> {
        let axe = fs::read_to_string(AXE).expect("axe can be read");
        let script = format!(
            "const done = arguments[arguments.length - 1];
             {axe};
             axe.run().then(({{violations}}) => done(violations.flatMap(({{id, help, nodes}}) =>
                 nodes.map(({{html, failureSummary}}) => `${{id}}: ${{help}}: ${{html}}: ${{failureSummary}}`))),
                 (error) => done([String(error)]));"
        );
        let found = self.ask("execute/async", json!({ "script": script, "args": [] })).await;
        serde_json::from_value(found).expect("a list of sentences")
    }

    /// Returns the processor time of the page itself in seconds, without other programs on the machine.
    pub async fn busy(&self) -> f64 {
        let metrics = self.tell("Performance.getMetrics", json!({})).await;
        let metrics = metrics["metrics"].as_array().expect("metrics");
        let task = metrics.iter().find(|it| it["name"] == "TaskDuration").expect("the time of all tasks");
        task["value"].as_f64().expect("a number")
    }

    /// Returns the violations of the policy, and unexpected messages on the browser's own console.
    pub async fn complaints(&self, expected: &[&str]) -> Vec<String> {
        let log = self.ask("se/log", json!({ "type": "browser" })).await;
        let said = log.as_array().into_iter().flatten().filter_map(|it| it["message"].as_str());
        let said = said.filter(|it| !expected.iter().any(|part| it.contains(part))).map(str::to_owned);
        let forbidden = self.run("return window.violations").await;
        let forbidden = forbidden.as_array().into_iter().flatten().map(Value::to_string);
        said.chain(forbidden).collect()
    }

    /// Sends a command to the inside of the browser.
    async fn tell(&self, command: &str, parameters: Value) -> Value {
        self.ask("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    async fn ask(&self, what: &str, body: Value) -> Value {
        let answer = patiently(what, self.send(Method::POST, &self.path(what), &body)).await;
        answer.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    fn path(&self, what: &str) -> String {
        format!("/session/{}/{what}", self.session)
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, String> {
        self.driver.send(method, path, body).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(browser) = self.browser {
            _ = kill_process(browser, Signal::KILL);
        }
    }
}

/// The driver of one browser. The driver ends when this is dropped.
#[derive(Debug)]
struct Driver {
    process: Child,
    port: u16,
}

impl Driver {
    async fn start(home: &TempDir) -> Result<Self, String> {
        let process = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the driver can be started");
        let mut driver = Self { process, port: 0 };
        let said = driver.process.stdout.take().expect("it has a stdout");
        let port = patiently("the driver to listen", tokio::task::spawn_blocking(|| listening(BufReader::new(said))));
        driver.port = port.await.expect("the task is not cancelled")?;
        Ok(driver)
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, String> {
        let request = Request::builder().method(method).uri(path).header("host", format!("127.0.0.1:{}", self.port));
        let request = request.header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body.to_string()))).expect("a request");
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("the driver takes connections");
        let answer = exchange(stream, request).await;
        let mut value = answer.json()["value"].take();
        if answer.status.is_success() { Ok(value) } else { Err(value["message"].take().to_string()) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Returns the port that a driver listens on, or its output if it ended first.
fn listening(mut said: impl BufRead + Send + 'static) -> Result<u16, String> {
    let mut all = String::new();
    loop {
        let from = all.len();
        if said.read_line(&mut all).expect("the driver speaks") == 0 {
            return Err(format!("the driver ended and said {all:?}"));
        }
        if let Some((_, port)) = all[from..].trim_end().trim_end_matches('.').rsplit_once("successfully on port ") {
            let port = port.parse().expect("a port");
            // The output must always have a reader.
            std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
            return Ok(port);
        }
    }
}

fn on_the_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|it| it.join(program)).find(|it| it.is_file())
}

/// Returns a key by its name, as WebDriver names it.
fn code(key: &str) -> String {
    match key {
        "Enter" => "\u{e007}",
        "Tab" => "\u{e004}",
        "Shift" => "\u{e008}",
        "Control" => "\u{e009}",
        "Escape" => "\u{e00c}",
        "Space" => " ",
        "ArrowUp" => "\u{e013}",
        "ArrowDown" => "\u{e015}",
        other => other,
    }
    .to_owned()
}
