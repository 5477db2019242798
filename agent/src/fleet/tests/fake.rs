//! A server on loopback that says what it is told to. Knows nothing of what is asked.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Status line and body for a query and the head of its request.
pub type Respond = dyn Fn(&str, &str) -> (&'static str, String) + Send + Sync;

/// A server; it ends with the process.
pub struct Fake {
    pub port: u16,
    pub heads: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub fn start(respond: impl Fn(&str, &str) -> (&'static str, String) + Send + Sync + 'static) -> Fake {
        Fake::with(None, Box::new(respond))
    }

    pub fn with(tls: Option<Arc<ServerConfig>>, respond: Box<Respond>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                match &tls {
                    None => serve(stream, &respond, &seen),
                    Some(tls) => {
                        let tls = ServerConnection::new(Arc::clone(tls)).unwrap();
                        serve(StreamOwned::<ServerConnection, TcpStream>::new(tls, stream), &respond, &seen);
                    }
                }
            }
        });
        Fake { port, heads }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn serve(mut stream: impl Read + Write, respond: &Respond, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            // A TLS hello, where plain HTTP is spoken.
            Ok(1) if head.is_empty() && byte[0] == 22 => {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
                return;
            }
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let query = head.split("query=").nth(1).unwrap_or_default();
    let query = decode(query.split(['&', ' ']).next().unwrap_or_default());
    let (status, body) = respond(&query, &head);
    seen.lock().unwrap().push(head);
    // Headers may be appended to the status line.
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).unwrap()
}
