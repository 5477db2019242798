//! Claims about clients that are slow, many, broken or hostile: others are served, and memory and the reactor stay as
//! they are.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use super::*;

/// A server whose scrapes are answered with a text, as a reactor does it, and how many times it was asked.
struct Answering {
    address: SocketAddr,
    server: Server,
    end: Arc<AtomicBool>,
    reactor: thread::JoinHandle<()>,
    asked: Arc<AtomicUsize>,
}

impl Answering {
    fn start(limits: Limits, text: String) -> Answering {
        let (address, server, exchange, wakes) = start(limits);
        exchange.set_ready(true);
        let (end, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ended, counted) = (Arc::clone(&end), Arc::clone(&asked));
        let text = hyper::body::Bytes::from(text);
        let reactor = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let _ = wakes.recv_timeout(Duration::from_millis(20));
                for question in exchange.questions().unwrap_or_default() {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let _ = question.send(Ok(text.clone()));
                }
            }
        });
        Answering { address, server, end, reactor, asked }
    }

    fn stop(self) {
        self.end.store(true, Ordering::Relaxed);
        self.server.stop();
        self.reactor.join().unwrap();
    }
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn two_hundred_scrapes_at_once_are_each_answered_and_share_one_text() {
    let line = "loopscope_waits_total{comm=\"nginx\",mechanism=\"epoll\",result=\"ready\"} 12345\n";
    let text = line.repeat(10_000);
    let server = Answering::start(Limits::default(), text.clone());
    let before = resident();
    let address = server.address;
    let gzip = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n";
    let scrape = move || {
        let mut stream = send(address, gzip);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer.truncate(64);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let clients: Vec<_> = (0..200).map(|_| thread::spawn(scrape)).collect();
    let answers: Vec<String> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let whole = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 200 ")).count();
    let refused = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 503 ")).count();
    assert_eq!(whole + refused, 200, "{answers:?}");
    assert!(whole >= 40 && server.asked.load(Ordering::Relaxed) == whole, "{whole} were answered");
    // Two hundred copies of the text would be 160 MB.
    let grown = resident().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more");
    let (status, _, body) = ask(address, "GET", "/metrics");
    assert!(status == 200 && body == text);
    server.stop();
}

#[test]
fn slow_clients_in_every_place_give_way_to_one_with_a_request() {
    let limits = Limits { connections: 16, ..Limits::default() };
    let server = Answering::start(limits, "a 1\n".to_owned());
    let half = "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    let slow: Vec<TcpStream> = (0..64).map(|_| send(server.address, half)).collect();
    let began = Instant::now();
    // Four times as many as there are places, and they may stay for five seconds each.
    assert_eq!(ask(server.address, "GET", "/metrics").0, 200);
    assert!(began.elapsed() < limits.head_time, "{:?}", began.elapsed());
    drop(slow);
    server.stop();
}

#[test]
fn what_is_no_http_gets_an_error_or_an_end() {
    let server = Answering::start(Limits::default(), "a 1\n".to_owned());
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5_000));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let random: Vec<u8> = (0..4_096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for bytes in [
        &b"\x00\x01\x02\xff\xfe\r\n\r\n"[..],
        &random,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        many.as_bytes(),
        long.as_bytes(),
    ] {
        let mut stream = send(server.address, "");
        // The server may close before everything is sent.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{}: {}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(50)]),
            String::from_utf8_lossy(&answer)
        );
    }
    assert_eq!(ask(server.address, "GET", "/metrics").0, 200);
    server.stop();
}

#[test]
fn clients_that_close_early_cost_nothing() {
    let server = Answering::start(Limits { connections: 4, ..Limits::default() }, "a 1\n".to_owned());
    for _ in 0..50 {
        let stream = send(server.address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.shutdown(Shutdown::Write).unwrap();
        // hyper may take the end of the client's half as the end of the client.
        let (status, _, body) = receive(stream);
        assert!((status, body.as_str()) == (200, "a 1\n") || status == 0, "{status} {body}");
        drop(send(server.address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
        drop(send(server.address, "GET /met"));
    }
    assert_eq!(ask(server.address, "GET", "/metrics").0, 200);
    server.stop();
}

#[test]
fn a_body_is_not_read() {
    let server = Answering::start(Limits::default(), "a 1\n".to_owned());
    let head = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n";
    let mut stream = send(server.address, head);
    let block = vec![b'x'; 1 << 16];
    // 64 MB at most; the server closes long before that.
    let sent = (0..1_024).take_while(|_| stream.write_all(&block).is_ok()).count();
    assert!(sent < 1_024, "it took everything");
    server.stop();
}
