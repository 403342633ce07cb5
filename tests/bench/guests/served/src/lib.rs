//! The shortest real request: reads one line, and answers with it.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Served;

impl wasip2::exports::http::incoming_handler::Guest for Served {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let mut line = Vec::new();
        {
            let body = request.consume().expect("the body is consumed once");
            let stream = body.stream().expect("the stream is taken once");
            // An error is the end of the body.
            while let Ok(piece) = stream.blocking_read(1024) {
                line.extend(piece);
            }
        }
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(answer, Ok(response));
        {
            let stream = body.write().expect("the stream is taken once");
            stream.blocking_write_and_flush(&line).expect("somebody reads the answer");
        }
        OutgoingBody::finish(body, None).expect("the body is whole");
    }
}

wasip2::http::proxy::export!(Served);
