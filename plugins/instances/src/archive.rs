//! A snapshot: a `tar.gz` of the content of an instance, with a manifest at its end.
//!
//! The content is only trusted if it matches the manifest, and no entry can leave the directory into which it is
//! unpacked.

use crate::{
    Host,
    full::Written,
    instance::Instance,
    manifest::{self, Content, Manifest, is_inside, leads_inside},
    mount::{link, settle},
    slug::{Slug, shown},
    tree::{Entry, Tree},
};
use anyhow::{Context, Result, bail, ensure};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
    rc::Rc,
    time::UNIX_EPOCH,
};
use tar::{Archive, Builder, EntryType, Header};

const PIECE: usize = 64 << 10;
/// Largest manifest; enough for a million files.
const LONGEST_MANIFEST: u64 = 128 << 20;
/// The directory of dumps, in a snapshot and in a restored instance.
pub const DUMPS: &str = "dumps";
/// Deepest nesting of directories.
const DEEPEST: usize = 64;

/// Passes bytes on, counts and hashes them, and fails once the process is cancelled.
struct Hashing<'a, T, H> {
    inner: T,
    hash: Sha256,
    count: u64,
    host: &'a H,
}

impl<'a, T, H: Host> Hashing<'a, T, H> {
    fn new(inner: T, host: &'a H) -> Self {
        Self { inner, hash: Sha256::new(), count: 0, host }
    }

    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.count += bytes.len() as u64;
        self.host.go_on().map_err(io::Error::other)
    }

    fn content(self) -> Content {
        Content { size: self.count, sha256: hex(&self.hash.finalize()) }
    }
}

impl<T: Read, H: Host> Read for Hashing<'_, T, H> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.pass(&buffer[..count])?;
        Ok(count)
    }
}

impl<T: Write, H: Host> Write for Hashing<'_, T, H> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.pass(&bytes[..count])?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a snapshot contains beside the directory, and instead of parts of it.
#[derive(Debug, Default)]
pub struct Dumps {
    /// Open at their beginning, with the names below [`DUMPS`].
    pub files: Vec<(String, File)>,
    pub instead_of: BTreeSet<String>,
}

/// Writes all of `directory` to `file`. Returns the manifest, and the size and checksum of `file`.
pub fn write(
    directory: &Path,
    slug: &Slug,
    instance: &Instance,
    taken: String,
    dumps: Dumps,
    file: Written,
    host: &impl Host,
) -> Result<(Manifest, Content)> {
    let manifest = Manifest {
        version: manifest::VERSION,
        slug: slug.to_string(),
        flavor: instance.flavor.clone(),
        taken,
        files: BTreeMap::new(),
        directories: Vec::new(),
        links: BTreeMap::new(),
        left_out: BTreeMap::new(),
    };
    let hashing = Hashing::new(BufWriter::with_capacity(PIECE, file), host);
    let builder = Builder::new(GzEncoder::new(hashing, Compression::default()));
    let mut writer = Writer { builder, manifest, slug, host };
    writer.tree(directory, &dumps.instead_of)?;
    writer.dumps(dumps.files)?;
    writer.finish()
}

struct Writer<'a, H: Host> {
    builder: Builder<GzEncoder<Hashing<'a, BufWriter<Written>, H>>>,
    manifest: Manifest,
    slug: &'a Slug,
    host: &'a H,
}

impl<H: Host> Writer<'_, H> {
    /// Adds a directory, except for some paths in it.
    fn tree(&mut self, directory: &Path, without: &BTreeSet<String>) -> Result<()> {
        let root = Rc::new(Tree::open(directory).with_context(|| unreadable("its directory"))?);
        self.append(EntryType::Directory, "", 0, io::empty())?;
        let mut todo = self.children(&root, "")?;
        while let Some((parent, path)) = todo.pop() {
            self.host.go_on()?;
            if without.contains(&path) {
                continue;
            }
            let name = path.rsplit('/').next().unwrap_or(&path);
            match parent.entry(name).with_context(|| unreadable(&path))? {
                // It was deleted meanwhile, as temporary files are.
                None => {}
                Some(Entry::Directory(tree)) => {
                    ensure!(path.matches('/').count() < DEEPEST, "{} is nested too deeply: move it", shown(&path));
                    self.append(EntryType::Directory, &path, 0, io::empty())?;
                    todo.extend(self.children(&Rc::new(tree), &path)?);
                    self.manifest.directories.push(path);
                }
                Some(Entry::File(file)) => self.file(path, file)?,
                Some(Entry::Link(target)) => self.link(path, target)?,
                Some(Entry::Other) => {
                    self.manifest.left_out.insert(path, "neither a file nor a directory nor a link".to_owned());
                }
            }
        }
        Ok(())
    }

    /// Returns the paths in a directory with their parent, in descending order.
    fn children(&mut self, tree: &Rc<Tree>, path: &str) -> Result<Vec<(Rc<Tree>, String)>> {
        let below = |name: String| if path.is_empty() { name } else { format!("{path}/{name}") };
        let (mut names, odd) = tree.names().with_context(|| unreadable(path))?;
        for name in odd {
            self.manifest.left_out.insert(below(name), "its name is not UTF-8".to_owned());
        }
        names.sort_by(|a, b| b.cmp(a));
        Ok(names.into_iter().map(|name| (tree.clone(), below(name))).collect())
    }

    fn file(&mut self, path: String, file: File) -> Result<()> {
        let metadata = file.metadata().with_context(|| unreadable(&path))?;
        let modified = metadata.modified().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok());
        let size = metadata.len();
        // Data that is added meanwhile, as to a log, belongs to the next snapshot.
        let mut content = Hashing::new(BufReader::with_capacity(PIECE, file).take(size), self.host);
        let name = format!("{}/{path}", self.slug);
        let mut header = header(EntryType::Regular, modified.map_or(0, |it| it.as_secs()), size);
        self.builder.append_data(&mut header, name, &mut content).with_context(|| unreadable(&path))?;
        let content = content.content();
        ensure!(content.size == size, changed(&path));
        self.manifest.files.insert(path, content);
        Ok(())
    }

    fn link(&mut self, path: String, target: Option<String>) -> Result<()> {
        match target.filter(|target| leads_inside(&path, target)) {
            Some(target) => {
                let mut header = header(EntryType::Symlink, 0, 0);
                self.builder.append_link(&mut header, format!("{}/{path}", self.slug), &target)?;
                self.manifest.links.insert(path, target);
            }
            None => _ = self.manifest.left_out.insert(path, "a link that leads out of the instance".to_owned()),
        }
        Ok(())
    }

    fn dumps(&mut self, dumps: Vec<(String, File)>) -> Result<()> {
        if dumps.is_empty() {
            return Ok(());
        }
        self.append(EntryType::Directory, DUMPS, 0, io::empty())?;
        self.manifest.directories.push(DUMPS.to_owned());
        dumps.into_iter().try_for_each(|(name, file)| self.file(format!("{DUMPS}/{name}"), file))
    }

    /// Adds the entry of this path, or without a path that of the instance itself.
    fn append(&mut self, kind: EntryType, path: &str, size: u64, content: impl Read) -> Result<()> {
        let end = if kind.is_dir() { "/" } else { "" };
        let name = if path.is_empty() { format!("{}{end}", self.slug) } else { format!("{}/{path}{end}", self.slug) };
        self.builder.append_data(&mut header(kind, 0, size), name, content)?;
        Ok(())
    }

    fn finish(mut self) -> Result<(Manifest, Content)> {
        self.manifest.directories.sort();
        let text = serde_json::to_vec_pretty(&self.manifest)?;
        let mut header = header(EntryType::Regular, 0, text.len() as u64);
        self.builder.append_data(&mut header, manifest::FILE, text.as_slice())?;
        let mut hashing = self.builder.into_inner()?.finish()?;
        hashing.flush()?;
        hashing.inner.get_ref().file.sync_all().context("the snapshot cannot be written")?;
        Ok((self.manifest, hashing.content()))
    }
}

fn header(kind: EntryType, modified: u64, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mtime(modified);
    header.set_size(size);
    header.set_mode(match kind {
        EntryType::Directory => 0o755,
        EntryType::Symlink => 0o777,
        _ => 0o644,
    });
    header
}

fn unreadable(path: &str) -> String {
    format!("{} cannot be read: the server's user must be able to", shown(path))
}

fn changed(path: &str) -> String {
    format!("{} changed while it was read: stop the instance, and try again", shown(path))
}

/// Returns the size and checksum of a file.
pub fn checksum(file: File, host: &impl Host) -> Result<String> {
    let mut hashing = Hashing::new(BufReader::with_capacity(PIECE, file), host);
    io::copy(&mut hashing, &mut io::sink()).context("the snapshot cannot be read")?;
    Ok(hashing.content().sha256)
}

/// An entry of a snapshot.
enum Item<'a> {
    File(&'a mut dyn Read),
    Directory,
    Link(String),
}

/// Reads a snapshot, and passes each entry to `each`, with its path in the instance. Returns the manifest.
fn read(file: File, slug: &Slug, mut each: impl FnMut(&str, Item<'_>) -> Result<()>) -> Result<Manifest> {
    let mut archive = Archive::new(GzDecoder::new(BufReader::with_capacity(PIECE, file)));
    let mut manifest = None;
    for entry in archive.entries().context("it cannot be read")? {
        let mut entry = entry.context("it is damaged")?;
        let name = String::from_utf8(entry.path_bytes().into_owned()).context("it has a name that is not UTF-8")?;
        ensure!(manifest.is_none(), "it has data after its manifest");
        let kind = entry.header().entry_type();
        if name == manifest::FILE {
            ensure!(kind.is_file() && entry.size() <= LONGEST_MANIFEST, "its manifest is invalid");
            let text = BufReader::new(entry);
            manifest = Some(serde_json::from_reader(text).context("its manifest is not understood")?);
            continue;
        }
        let path = name.strip_prefix(slug.as_str()).filter(|rest| rest.starts_with('/'));
        let path = path.with_context(|| format!("it contains {}, which is not part of {slug}", shown(&name)))?;
        let path = path[1..].strip_suffix('/').filter(|_| kind.is_dir()).unwrap_or(&path[1..]);
        if path.is_empty() && kind.is_dir() {
            continue;
        }
        ensure!(is_inside(path), "it contains {}, which leads out of it", shown(path));
        if kind.is_dir() {
            each(path, Item::Directory)?;
        } else if kind.is_file() {
            each(path, Item::File(&mut entry))?;
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            let target = String::from_utf8(target).context("it has a link that is not UTF-8")?;
            ensure!(leads_inside(path, &target), "it contains the link {}, which leads out of it", shown(path));
            each(path, Item::Link(target))?;
        } else {
            bail!("it contains {}, which is neither a file nor a directory nor a link", shown(path));
        }
    }
    // The checksum of the compression is at the very end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).context("it is damaged")?;
    manifest.context("it is incomplete: its manifest is missing")
}

/// Verifies a whole snapshot of `slug`, without writing anything.
pub fn verify(file: File, slug: &Slug, host: &impl Host) -> Result<Manifest> {
    let (mut files, mut directories, mut links) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    let mut seen = BTreeSet::new();
    let manifest = read(file, slug, |path, item| {
        host.go_on()?;
        ensure!(seen.insert(path.to_owned()), "it contains {} twice", shown(path));
        if let Some((parent, _)) = path.rsplit_once('/') {
            ensure!(directories.contains(parent), "it contains {}, but not its directory", shown(path));
        }
        match item {
            Item::Directory => _ = directories.insert(path.to_owned()),
            Item::Link(target) => _ = links.insert(path.to_owned(), target),
            Item::File(content) => {
                let mut hashing = Hashing::new(content, host);
                io::copy(&mut hashing, &mut io::sink()).context("it is damaged")?;
                files.insert(path.to_owned(), hashing.content());
            }
        }
        Ok(())
    })?;
    ensure!(manifest.version == manifest::VERSION, "it was taken by another version of this call");
    ensure!(manifest.slug == slug.as_str(), "it is a snapshot of {}", shown(&manifest.slug));
    for (path, content) in &manifest.files {
        match files.get(path) {
            None => bail!("{} is missing", shown(path)),
            Some(found) if found != content => bail!("the checksum of {} does not match", shown(path)),
            Some(_) => {}
        }
    }
    let same = files.len() == manifest.files.len() && links == manifest.links;
    ensure!(
        same && directories.iter().eq(&manifest.directories),
        "it contains something that its manifest does not name"
    );
    Ok(manifest)
}

/// Unpacks a verified snapshot into a new directory. Verifies it again, because it could have been replaced.
pub fn unpack(file: File, slug: &Slug, manifest: &Manifest, directory: &Path, host: &impl Host) -> Result<()> {
    let other = "it changed while it was unpacked";
    for path in &manifest.directories {
        fs::create_dir(directory.join(path)).with_context(|| format!("cannot make {}", shown(path)))?;
    }
    let mut left = manifest.files.len();
    let again = read(file, slug, |path, item| {
        host.go_on()?;
        let Item::File(content) = item else { return Ok(()) };
        let expected = manifest.files.get(path).context(other)?;
        let unwritten = || format!("cannot write {}", shown(path));
        let mut hashing = Hashing::new(content.take(expected.size + 1), host);
        let mut written = Written::new(File::create_new(directory.join(path)).with_context(unwritten)?, directory);
        io::copy(&mut hashing, &mut written).with_context(unwritten)?;
        written.file.sync_all().with_context(unwritten)?;
        ensure!(hashing.content() == *expected, other);
        left -= 1;
        Ok(())
    })?;
    ensure!(left == 0 && again == *manifest, other);
    // Links come last, so that nothing is written through one.
    for (path, target) in &manifest.links {
        link(Path::new(target), &directory.join(path)).with_context(|| format!("cannot make {}", shown(path)))?;
    }
    for path in &manifest.directories {
        settle(&directory.join(path))?;
    }
    settle(directory)
}
