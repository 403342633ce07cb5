//! `commands/src/bin/files.rs` and `fetch.rs` as a WASI 0.3 component: uses files and sends requests as its parameters
//! say, and prints each result.

use wasip3::{
    cli::{environment, stdout},
    filesystem::{
        preopens,
        types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
    },
    http::{
        client,
        types::{ErrorCode as HttpError, Fields, Request, Response, Scheme},
    },
    wit_future, wit_stream,
};

struct Touches;

wasip3::cli::command::export!(Touches);

impl wasip3::exports::cli::run::Guest for Touches {
    async fn run() -> Result<(), ()> {
        let (mut output, sent) = wit_stream::new();
        let written = stdout::write_via_stream(sent);
        for todo in environment::get_arguments().into_iter().skip(1) {
            let line = match *todo.split(' ').collect::<Vec<_>>() {
                ["get", url] => get(url).await.unwrap_or_else(|error| format!("{error:?}")),
                ref todo => file(todo).await.unwrap_or_else(|error| format!("{error:?}")),
            };
            output.write_all(format!("{line}\n").into_bytes()).await;
        }
        drop(output);
        written.await.map_err(drop)
    }
}

/// Returns the directory of a path, and the rest of the path. Other paths belong to the first directory.
fn place(path: &str) -> (Descriptor, String) {
    let mut directories = preopens::get_directories();
    let at = directories.iter().position(|(_, at)| path.starts_with(&format!("{at}/"))).unwrap_or_default();
    let (directory, at) = directories.swap_remove(at);
    let rest = path.strip_prefix(&format!("{at}/")).unwrap_or(path);
    (directory, rest.to_owned())
}

async fn open(path: &str, how: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, ErrorCode> {
    let (directory, path) = place(path);
    directory.open_at(PathFlags::SYMLINK_FOLLOW, path, how, flags).await
}

async fn file(todo: &[&str]) -> Result<String, ErrorCode> {
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    match *todo {
        ["read", path] => {
            let file = open(path, OpenFlags::empty(), DescriptorFlags::READ).await?;
            let (stream, ended) = file.read_via_stream(0);
            let bytes = stream.collect().await;
            ended.await?;
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        ["write", path, count] => {
            let file = open(path, OpenFlags::CREATE, flags).await?;
            let (mut data, reader) = wit_stream::new();
            let ended = file.write_via_stream(reader, 0);
            data.write_all(vec![b'x'; number(count) as usize]).await;
            drop(data);
            ended.await?;
        }
        ["append", path, count] => {
            let file = open(path, OpenFlags::CREATE, flags).await?;
            let (mut data, reader) = wit_stream::new();
            let ended = file.append_via_stream(reader);
            data.write_all(vec![b'x'; number(count) as usize]).await;
            drop(data);
            ended.await?;
        }
        ["rewrite", path] => drop(open(path, OpenFlags::CREATE | OpenFlags::TRUNCATE, flags).await?),
        ["grow", path, size] => open(path, OpenFlags::CREATE, flags).await?.set_size(number(size)).await?,
        ["mkdir", path] => {
            let (directory, path) = place(path);
            directory.create_directory_at(path).await?;
        }
        ["symlink", target, path] => {
            let (directory, path) = place(path);
            directory.symlink_at(target.to_owned(), path).await?;
        }
        ["link", from, to] => {
            let ((from, old), (to, new)) = (place(from), place(to));
            from.link_at(PathFlags::empty(), old, &to, new).await?;
        }
        ["rename", from, to] => {
            let ((from, old), (to, new)) = (place(from), place(to));
            from.rename_at(old, &to, new).await?;
        }
        ["remove", path] => {
            let (directory, path) = place(path);
            directory.unlink_file_at(path).await?;
        }
        _ => panic!("not understood: {todo:?}"),
    }
    Ok("ok".to_owned())
}

async fn get(url: &str) -> Result<String, HttpError> {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (no_trailers, trailers) = wit_future::new(|| Ok(None));
    drop(no_trailers);
    let (request, _sent) = Request::new(Fields::new(), None, trailers, None);
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).expect("a scheme");
    request.set_authority(Some(host)).expect("a host");
    request.set_path_with_query(Some(path)).expect("a path");
    let answer = client::send(request).await?;
    let status = answer.get_status_code();
    let (no_error, read) = wit_future::new(|| Ok(()));
    drop(no_error);
    let (body, _trailers) = Response::consume_body(answer, read);
    Ok(format!("{status} {}", String::from_utf8_lossy(&body.collect().await)))
}
