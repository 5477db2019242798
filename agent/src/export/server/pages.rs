//! What is served: paths, methods, status codes and bodies. Knows no socket.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{
    Method, Response, StatusCode,
    body::{Body, Bytes, Frame, SizeHint},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use tokio::sync::Semaphore;

use crate::export::{Client, NOT_READY, Subject, families};

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

const LANDING: &str = concat!(
    "<!DOCTYPE html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>loopscope</title></head>
<body>
<h1>loopscope ",
    env!("CARGO_PKG_VERSION"),
    "</h1>
<p>What every event loop of this host is doing.</p>
<ul>
<li><a href=\"/metrics\">/metrics</a>: for Prometheus</li>
<li><a href=\"/-/healthy\">/-/healthy</a>: the agent runs</li>
<li><a href=\"/-/ready\">/-/ready</a>: the probes are attached and have been read</li>
</ul>
</body>
</html>
"
);

/// A form of `/metrics`.
#[derive(Clone, Copy)]
pub struct Form {
    /// How the reactor knows it.
    pub subject: Subject,
    /// Its type.
    pub kind: &'static str,
}

/// What everybody reads.
pub const CLASSIC: Form = Form { subject: Subject::Metrics, kind: families::CONTENT_TYPE };

/// A body of one piece, which answers can share.
pub struct Text(Option<Bytes>);

impl Text {
    /// A body of this text.
    pub fn new(text: Bytes) -> Text {
        Text(Some(text))
    }

    /// The text, while it is not sent.
    pub fn text(&self) -> Option<&Bytes> {
        self.0.as_ref()
    }
}

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |text| text.len() as u64))
    }
}

/// Answers requests.
pub struct Pages {
    client: Client,
    scrapes: Semaphore,
}

impl Pages {
    /// `scrapes`: how many may wait for the reactor at a time.
    pub fn new(client: Client, scrapes: usize) -> Pages {
        Pages { client, scrapes: Semaphore::new(scrapes) }
    }

    /// The answer to a request. What else it has, headers and a body, is of no interest.
    pub async fn answer(&self, method: &Method, path: &str, form: Form) -> Response<Text> {
        if !["/", "/metrics", "/-/healthy", "/-/ready"].contains(&path) {
            return plain(
                StatusCode::NOT_FOUND,
                "not found: there are /, /metrics, /-/healthy and /-/ready\n",
            );
        }
        if method != Method::GET && method != Method::HEAD {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/metrics" => self.metrics(form).await,
            "/-/ready" if self.client.is_ready() => plain(StatusCode::OK, "ready\n"),
            "/-/ready" => unavailable(NOT_READY),
            "/-/healthy" => plain(StatusCode::OK, "healthy\n"),
            _ => response(StatusCode::OK, HTML, Bytes::from_static(LANDING.as_bytes())),
        }
    }

    async fn metrics(&self, form: Form) -> Response<Text> {
        let Ok(_room) = self.scrapes.try_acquire() else {
            return unavailable("too many scrapes at a time; try again");
        };
        match self.client.ask(form.subject).await {
            Ok(text) => response(StatusCode::OK, form.kind, text),
            Err(why) => unavailable(&why.0),
        }
    }
}

/// A short answer.
pub fn plain(status: StatusCode, text: &'static str) -> Response<Text> {
    response(status, TEXT, Bytes::from_static(text.as_bytes()))
}

fn unavailable(why: &str) -> Response<Text> {
    response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n").into())
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Text> {
    let mut response = Response::new(Text::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
