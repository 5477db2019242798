//! What is served: paths, methods, status codes and bodies. Knows no socket.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{
    Method, Response, StatusCode,
    body::{Body, Bytes, Frame, SizeHint},
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use tokio::sync::Semaphore;

use crate::export::{Answer, Client, NOT_READY, Subject, Unavailable, families, page};

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

const JSON: &str = "application/json";
const STYLES: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Every path.
const PATHS: [&str; 7] = ["/", "/metrics", "/api/loops", "/page.css", "/page.js", "/-/healthy", "/-/ready"];

/// What the page may do: load its own style sheet, script and table, and nothing else from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A body of one piece, which answers can share.
pub struct Text(Option<Bytes>);

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
    pub async fn answer(&self, method: &Method, path: &str) -> Response<Text> {
        if !PATHS.contains(&path) {
            return plain(
                StatusCode::NOT_FOUND,
                "not found: there are /, /metrics, /api/loops, /-/healthy and /-/ready\n",
            );
        }
        if method != Method::GET && method != Method::HEAD {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/metrics" => self.ask(Subject::Metrics, families::CONTENT_TYPE).await,
            "/api/loops" => guarded(self.ask(Subject::Loops, JSON).await),
            "/page.css" => {
                guarded(response(StatusCode::OK, STYLES, Bytes::from_static(page::CSS.as_bytes())))
            }
            "/page.js" => {
                guarded(response(StatusCode::OK, SCRIPT, Bytes::from_static(page::SCRIPT.as_bytes())))
            }
            "/-/ready" if self.client.is_ready() => plain(StatusCode::OK, "ready\n"),
            "/-/ready" => unavailable(NOT_READY),
            "/-/healthy" => plain(StatusCode::OK, "healthy\n"),
            _ => guarded(self.page().await),
        }
    }

    async fn ask(&self, subject: Subject, kind: &'static str) -> Response<Text> {
        match self.answer_to(subject).await {
            Ok(text) => response(StatusCode::OK, kind, text),
            Err(why) => unavailable(&why.0),
        }
    }

    /// The page, with a table or without: its links and its script are of use either way.
    async fn page(&self) -> Response<Text> {
        let page = self.answer_to(Subject::Page).await;
        response(StatusCode::OK, HTML, page.unwrap_or_else(|why| Bytes::from(page::empty(&why.0))))
    }

    async fn answer_to(&self, subject: Subject) -> Answer {
        match self.scrapes.try_acquire() {
            Ok(_room) => self.client.ask(subject).await,
            Err(_) => Err(Unavailable("too many scrapes at a time; try again".to_owned())),
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Text> {
    response(status, TEXT, Bytes::from_static(text.as_bytes()))
}

/// With what browsers are told about the page and its parts.
fn guarded(mut answer: Response<Text>) -> Response<Text> {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn unavailable(why: &str) -> Response<Text> {
    response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n").into())
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Text> {
    let mut response = Response::new(Text(Some(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
