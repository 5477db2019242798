//! Clients that keep the servers busy over loopback, bounded in count and in time.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::Command,
    thread::{scope, sleep},
    time::Duration,
};

/// The body of nginx's answers.
pub const BODY: &str = "loopscope-oracle";

/// A request that gets it, and keeps the connection.
pub const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

const CONNECTIONS: usize = 12;
const REQUESTS: usize = 400;
/// Requests that are sent in one go, to have several ready at a time.
const BURST: usize = 4;
/// Connections for one request each, by each thread: a close takes a descriptor out without epoll_ctl.
const SHORT: usize = 10;

/// A read or write that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection on which nothing takes for ever.
pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends, then reads until `end` came `times` times.
pub fn ask(stream: &mut TcpStream, question: &str, end: &str, times: usize) {
    stream.write_all(question.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (String::new(), [0; 8192]);
    while answer.matches(end).count() < times {
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "the server hung up after {answer:?}");
        answer.push_str(str::from_utf8(&buffer[..count]).unwrap());
    }
    assert!(answer.ends_with(end), "{answer:?}");
}

/// Every connection at once, each in a thread.
fn from_several(port: u16, talk: impl Fn(usize, &mut TcpStream) + Sync) {
    scope(|scope| {
        for i in 0..CONNECTIONS {
            let talk = &talk;
            scope.spawn(move || talk(i, &mut connect(port)));
        }
    });
}

/// Keep-alive GETs, singly and in bursts, and short connections; then connections that nginx's timer has to close.
pub fn http(port: u16) {
    let get = GET;
    from_several(port, |i, stream| {
        for _ in 0..REQUESTS {
            ask(stream, get, BODY, 1);
        }
        for _ in 0..REQUESTS / BURST {
            ask(stream, &get.repeat(BURST), BODY, BURST);
        }
        (0..SHORT).for_each(|_| ask(&mut connect(port), get, BODY, 1));
        if i % 2 == 0 {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "nginx closes an idle connection");
        }
    });
}

/// redis-benchmark, singly and in bursts, then short connections; and a pause, in which redis' clock ticks.
pub fn redis(port: u16) {
    for burst in [1, BURST] {
        let arguments =
            format!("-h 127.0.0.1 -p {port} -c {CONNECTIONS} -n 6000 -P {burst} -t set,get,lpush -q");
        let output = Command::new("redis-benchmark").args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    from_several(port, |_, stream| {
        (0..REQUESTS / BURST).for_each(|_| ask(stream, &"PING\r\n".repeat(BURST), "+PONG\r\n", BURST));
        (0..SHORT).for_each(|_| ask(&mut connect(port), "PING\r\n", "+PONG\r\n", 1));
    });
    sleep(Duration::from_millis(500));
}

/// Sets and gets, singly and in bursts, and short connections; then a pause, in which memcached's clock ticks.
pub fn memcached(port: u16) {
    from_several(port, |i, stream| {
        for request in 0..REQUESTS {
            let value = format!("{i}-{request}");
            ask(stream, &format!("set key{i} 0 0 {}\r\n{value}\r\n", value.len()), "STORED\r\n", 1);
            ask(stream, &format!("get key{i}\r\n"), &format!("\r\n{value}\r\nEND\r\n"), 1);
        }
        for _ in 0..REQUESTS / BURST {
            ask(stream, &format!("get key{i}\r\n").repeat(BURST), "END\r\n", BURST);
        }
        (0..SHORT).for_each(|_| ask(&mut connect(port), &format!("get key{i}\r\n"), "END\r\n", 1));
    });
    sleep(Duration::from_millis(2_000));
}
