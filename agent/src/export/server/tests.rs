//! Claims about the server, with a thread in the place of the reactor.

mod attacks;
mod secure;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    time::Instant,
};

use super::*;
use crate::export::{Exchange, Question, Subject, exchange};

/// A server on a free port.
fn start(limits: Limits) -> (SocketAddr, Server, Exchange, mpsc::Receiver<()>) {
    start_with(limits, Web::default())
}

fn start_with(limits: Limits, web: Web) -> (SocketAddr, Server, Exchange, mpsc::Receiver<()>) {
    let (woken, wakes) = mpsc::channel();
    let (client, exchange) = exchange(move || woken.send(()).unwrap());
    let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = listeners[0].local_addr().unwrap();
    (address, Server::start(listeners, client, limits, web, || {}).unwrap(), exchange, wakes)
}

/// Connects and sends `head`.
fn send(address: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Everything that comes back until the server closes: status, head, body.
fn receive(mut stream: TcpStream) -> (u16, String, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, head.to_lowercase(), body.to_owned())
}

fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    receive(send(address, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n")))
}

/// Every question, once there are `count`.
fn collect(exchange: &Exchange, wakes: &mpsc::Receiver<()>, count: usize) -> Vec<Question> {
    let mut questions = Vec::new();
    while questions.len() < count {
        wakes.recv_timeout(Duration::from_secs(20)).unwrap();
        questions.extend(exchange.questions().unwrap());
    }
    questions
}

#[test]
fn pages_that_need_no_sample_are_there_at_once() {
    let (address, server, exchange, _wakes) = start(Limits::default());
    let (status, head, body) = ask(address, "GET", "/");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html") && head.contains("connection: close"), "{head}");
    assert!(["/metrics", "/-/healthy", "/-/ready"].iter().all(|path| body.contains(path)), "{body}");
    assert!(
        head.contains("content-security-policy: default-src 'none'; style-src 'self'; script-src 'self';"),
        "{head}"
    );
    assert!(body.contains("not ready: "), "{body}");
    for (path, kind) in [("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let (status, head, _) = ask(address, "GET", path);
        assert!(status == 200 && head.contains(kind) && head.contains("nosniff"), "{path}: {head}");
    }
    assert_eq!(ask(address, "GET", "/-/healthy").0, 200);
    for path in ["/-/ready", "/metrics", "/api/loops"] {
        let (status, _, body) = ask(address, "GET", path);
        assert!(status == 503 && body.starts_with("not ready: "), "{status} {body}");
    }
    exchange.set_ready(true);
    assert_eq!(ask(address, "GET", "/-/ready").0, 200);
    server.stop();
}

#[test]
fn other_paths_and_methods_are_refused_each_in_its_way() {
    let (address, server, _exchange, _wakes) = start(Limits::default());
    for path in ["/metric", "/metrics/", "/-/", "/../etc/passwd", "//"] {
        assert_eq!(ask(address, "GET", path).0, 404, "{path}");
    }
    assert_eq!(ask(address, "POST", "/nowhere").0, 404);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let (status, head, _) = ask(address, method, "/metrics");
        assert!(status == 405 && head.contains("allow: get, head"), "{method}: {status} {head}");
    }
    let (status, head, body) = ask(address, "HEAD", "/-/healthy");
    assert!(status == 200 && body.is_empty() && head.contains("content-length: 8"), "{head}");
    assert_eq!(ask(address, "GET", "/-/healthy?verbose=1").0, 200);
    server.stop();
}

#[test]
fn scrapes_beyond_the_limit_are_refused_and_the_others_wait() {
    let (address, server, exchange, wakes) = start(Limits { scrapes: 3, ..Limits::default() });
    exchange.set_ready(true);
    let waiting: Vec<_> = (0..3).map(|_| send(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    let questions = collect(&exchange, &wakes, 3);
    let (status, _, body) = ask(address, "GET", "/metrics");
    assert!(status == 503 && body.contains("too many scrapes"), "{status} {body}");
    assert_eq!(ask(address, "GET", "/-/healthy").0, 200);
    questions.into_iter().for_each(|question| question.send(Ok("a 1\n".into())).unwrap());
    for stream in waiting {
        let (status, head, body) = receive(stream);
        assert_eq!((status, body.as_str()), (200, "a 1\n"));
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    }
    server.stop();
}

#[test]
fn each_path_asks_for_its_own() {
    let (address, server, exchange, wakes) = start(Limits::default());
    exchange.set_ready(true);
    for (path, subject) in
        [("/", Subject::Page), ("/api/loops", Subject::Loops), ("/metrics", Subject::Metrics)]
    {
        let waiting = send(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let question = collect(&exchange, &wakes, 1).pop().unwrap();
        assert_eq!(question.subject, subject);
        question.send(Ok("answer".into())).unwrap();
        assert_eq!(receive(waiting).2, "answer");
    }
    server.stop();
}

#[test]
fn a_client_that_is_slow_or_endless_is_dropped_and_holds_nobody_up() {
    let limits = Limits { head_time: Duration::from_millis(300), ..Limits::default() };
    let (address, server, _exchange, _wakes) = start(limits);
    let began = Instant::now();
    let slow = send(address, "GET /metrics HTTP/1.1\r\nHost:");
    let silent = send(address, "");
    assert_eq!(ask(address, "GET", "/-/healthy").0, 200);
    assert_eq!((receive(slow).0, receive(silent).0), (0, 0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut endless = send(address, "GET / HTTP/1.1\r\nX: ");
    // The server closes in the middle of it.
    let _ = endless.write_all(&[b'x'; 2 * HEAD_BYTES]);
    let _ = endless.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = endless.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    server.stop();
}

#[test]
fn a_connection_that_is_not_read_ends_all_the_same() {
    let limits = Limits { connections: 1, connection_time: Duration::from_secs(2), ..Limits::default() };
    let (address, server, exchange, wakes) = start(limits);
    exchange.set_ready(true);
    let unread = send(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let long = hyper::body::Bytes::from(vec![b'#'; 64 << 20]);
    let questions = collect(&exchange, &wakes, 1).into_iter();
    questions.for_each(|question| assert!(question.send(Ok(long.clone())).is_ok(), "it has gone already"));
    // There is room for one connection: this one waits for the other's end.
    assert_eq!(ask(address, "GET", "/-/healthy").0, 200);
    drop(unread);
    server.stop();
}

#[test]
fn an_agent_that_ends_says_so_to_those_who_wait() {
    let (address, server, exchange, wakes) = start(Limits::default());
    exchange.set_ready(true);
    let waiting = send(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    drop(collect(&exchange, &wakes, 1));
    drop(exchange);
    server.stop();
    let (status, _, body) = receive(waiting);
    assert_eq!((status, body.as_str()), (503, "the agent ends\n"));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = StdListener::bind(taken).unwrap();
    let error = format!("{:#}", bind(&[taken]).unwrap_err());
    assert!(error.contains(&taken.to_string()) && error.contains("--listen"), "{error}");
    drop(other);
}
