//! Sends requests to the URLs in its parameters and prints each response, or the error. `follow URL` follows redirects;
//! `fields N` creates N sets of headers; `post URL N` sends N bytes. Only works as a component.

#[cfg(target_env = "p2")]
fn main() {
    for todo in std::env::args().skip(1) {
        let done = match *todo.split(' ').collect::<Vec<_>>() {
            ["fields", count] => requests::fields(count.parse().expect("a number")),
            ["follow", url] => requests::follow(url),
            ["post", url, count] => requests::send(url, count.parse().expect("a number")).map(|answer| answer.text()),
            [url] => requests::send(url, 0).map(|answer| answer.text()),
            _ => panic!("not understood: {todo:?}"),
        };
        match done {
            Ok(text) => println!("{text}"),
            Err(error) => println!("{error:?}"),
        }
    }
}

#[cfg(not(target_env = "p2"))]
fn main() {
    println!("there is no http for modules");
}

#[cfg(target_env = "p2")]
mod requests {
    use wasip2::{
        http::{
            outgoing_handler,
            types::{ErrorCode, Fields, Method, OutgoingBody, OutgoingRequest, Scheme},
        },
        io::streams::StreamError,
    };

    pub struct Answer {
        status: u16,
        location: Option<String>,
        body: String,
    }

    impl Answer {
        pub fn text(self) -> String {
            format!("{} {}", self.status, self.body)
        }
    }

    pub fn fields(count: usize) -> Result<String, ErrorCode> {
        let mut held = Vec::new();
        for _ in 0..count {
            let fields = Fields::new();
            for number in 0..3 {
                fields.append(&format!("x-{number}"), &[b'x'; 4096]).expect("that much fits");
            }
            held.push(fields);
        }
        Ok(format!("{} sets of fields", held.len()))
    }

    pub fn follow(url: &str) -> Result<String, ErrorCode> {
        let answer = send(url, 0)?;
        match answer.location {
            Some(next) => send(&next, 0).map(Answer::text),
            None => Ok(answer.text()),
        }
    }

    pub fn send(url: &str, count: usize) -> Result<Answer, ErrorCode> {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let request = OutgoingRequest::new(Fields::new());
        let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
        request.set_scheme(Some(&scheme)).expect("a scheme");
        if request.set_authority(Some(host)).is_err() {
            return Err(ErrorCode::HttpRequestUriInvalid);
        }
        request.set_path_with_query(Some(path)).expect("a path");
        if count > 0 {
            request.set_method(&Method::Post).expect("a method");
        }
        let body = request.body().expect("the body is taken once");
        let coming = outgoing_handler::handle(request, None)?;
        let mut left = count;
        let stream = body.write().expect("the stream is taken once");
        while left > 0 {
            let piece = left.min(4096);
            if stream.blocking_write_and_flush(&vec![b'x'; piece]).is_err() {
                break;
            }
            left -= piece;
        }
        drop(stream);
        OutgoingBody::finish(body, None)?;
        coming.subscribe().block();
        let answer = coming.get().expect("it has come").expect("it is taken once")?;
        let location = answer.headers().get("location").pop().and_then(|it| String::from_utf8(it).ok());
        let body = answer.consume().expect("it is taken once");
        let stream = body.stream().expect("it is taken once");
        let mut bytes = Vec::new();
        loop {
            match stream.blocking_read(64 << 10) {
                Ok(piece) => bytes.extend(piece),
                Err(StreamError::Closed) => break,
                Err(_) => return Err(ErrorCode::HttpResponseIncomplete),
            }
        }
        Ok(Answer { status: answer.status(), location, body: String::from_utf8_lossy(&bytes).into_owned() })
    }
}
