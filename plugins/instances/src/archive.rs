//! A snapshot: a `tar.gz` of the content of an instance, with a manifest at its end.
//!
//! The content is only trusted if it matches the manifest, and no entry can leave the directory into which it is
//! unpacked.

use crate::{
    Host,
    instance::Instance,
    manifest::{self, Content, Manifest, is_inside, leads_inside},
    mount::{link, settle},
    slug::{Slug, shown},
};
use anyhow::{Context, Result, bail, ensure};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
    time::UNIX_EPOCH,
};
use tar::{Archive, Builder, EntryType, Header};

const PIECE: usize = 64 << 10;
/// Largest manifest; enough for a million files.
const LONGEST_MANIFEST: u64 = 128 << 20;
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

/// Writes all of `directory` to `file`. Returns the manifest, and the size and checksum of `file`.
pub fn write(
    directory: &Path,
    slug: &Slug,
    instance: &Instance,
    taken: String,
    file: File,
    host: &impl Host,
) -> Result<(Manifest, Content)> {
    let mut manifest = Manifest {
        version: manifest::VERSION,
        slug: slug.to_string(),
        flavor: instance.flavor,
        taken,
        files: BTreeMap::new(),
        directories: Vec::new(),
        links: BTreeMap::new(),
        left_out: BTreeMap::new(),
    };
    let hashing = Hashing::new(BufWriter::with_capacity(PIECE, file), host);
    let mut builder = Builder::new(GzEncoder::new(hashing, Compression::default()));
    let mut todo = vec![String::new()];
    while let Some(path) = todo.pop() {
        let place = directory.join(&path);
        let metadata = fs::symlink_metadata(&place).with_context(|| changed(&path))?;
        let modified = metadata.modified().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok());
        let mut header = Header::new_gnu();
        header.set_mtime(modified.map_or(0, |it| it.as_secs()));
        let name = if path.is_empty() { slug.to_string() } else { format!("{slug}/{path}") };
        if metadata.is_dir() {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            builder.append_data(&mut header, format!("{name}/"), io::empty())?;
            if path.matches('/').count() >= DEEPEST {
                bail!("{} is nested too deeply: move it", shown(&path));
            }
            todo.extend(children(&place, &path, &mut manifest)?);
            if !path.is_empty() {
                manifest.directories.push(path);
            }
        } else if metadata.is_file() {
            let file = File::open(&place).with_context(|| unreadable(&path))?;
            let size = file.metadata().with_context(|| unreadable(&path))?.len();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o644);
            header.set_size(size);
            // Data that is added meanwhile, as to a log, belongs to the next snapshot.
            let mut content = Hashing::new(BufReader::with_capacity(PIECE, file).take(size), host);
            let appended = builder.append_data(&mut header, name, &mut content);
            appended.with_context(|| unreadable(&path))?;
            let content = content.content();
            ensure!(content.size == size, changed(&path));
            manifest.files.insert(path, content);
        } else if metadata.is_symlink() {
            let target = fs::read_link(&place).with_context(|| unreadable(&path))?;
            match target.to_str().filter(|target| leads_inside(&path, target)) {
                Some(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    builder.append_link(&mut header, name, target)?;
                    manifest.links.insert(path, target.to_owned());
                }
                None => _ = manifest.left_out.insert(path, "a link that leads out of the instance".to_owned()),
            }
        } else {
            manifest.left_out.insert(path, "neither a file nor a directory nor a link".to_owned());
        }
        host.go_on()?;
    }
    manifest.directories.sort();
    let text = serde_json::to_vec_pretty(&manifest)?;
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(text.len() as u64);
    builder.append_data(&mut header, manifest::FILE, text.as_slice())?;
    let mut hashing = builder.into_inner()?.finish()?;
    hashing.flush()?;
    hashing.inner.get_ref().sync_all().context("the snapshot cannot be written")?;
    Ok((manifest, hashing.content()))
}

/// Returns the paths in a directory, in descending order.
fn children(place: &Path, path: &str, manifest: &mut Manifest) -> Result<Vec<String>> {
    let mut children = Vec::new();
    for entry in fs::read_dir(place).with_context(|| unreadable(path))? {
        let name = entry.with_context(|| unreadable(path))?.file_name();
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        match name.to_str() {
            Some(name) => children.push(below(name)),
            None => {
                let reason = "its name is not UTF-8".to_owned();
                manifest.left_out.insert(below(&name.to_string_lossy()), reason);
            }
        }
    }
    children.sort_by(|a, b| b.cmp(a));
    Ok(children)
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
        let mut written = File::create_new(directory.join(path)).with_context(unwritten)?;
        io::copy(&mut hashing, &mut written).with_context(unwritten)?;
        written.sync_all().with_context(unwritten)?;
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
