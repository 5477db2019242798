//! An agent that serves metrics, and a scraper.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, agent, until};

/// An agent that watches.
pub struct Agent {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    stderr: Receiver<String>,
}

impl Agent {
    /// Starts one on a free port, and waits until it watches.
    pub fn start(args: &[&str]) -> Agent {
        Agent::start_with(args, &[])
    }

    /// The same, with variables in its environment.
    pub fn start_with(args: &[&str], environment: &[(&str, &str)]) -> Agent {
        let mut command = agent(&["agent", "--listen", "127.0.0.1:0"]);
        // The host's own socket is not for tests.
        if !args.contains(&"--socket") {
            command.args(["--socket", "none"]);
        }
        command.envs(environment.iter().copied());
        let mut child = command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, stderr) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let first = stderr.recv_timeout(PATIENCE).unwrap();
        let address = first.strip_prefix("listening on http://").and_then(|url| url.strip_suffix("/metrics"));
        let agent =
            Agent { child, address: address.unwrap_or_else(|| panic!("{first}")).parse().unwrap(), stderr };
        while agent.stderr.recv_timeout(PATIENCE).unwrap() != "watching" {}
        agent
    }

    /// Status, head and body.
    pub fn get(&self, path: &str) -> (u16, String, String) {
        get(self.address, path)
    }

    /// The value of each series, by its name and labels as they are written.
    pub fn scrape(&self) -> Series {
        let (status, head, body) = self.get("/metrics");
        assert_eq!(status, 200, "{head}\n{body}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        let samples = body.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| line.rsplit_once(' ').unwrap());
        Series(samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The next line on its stderr.
    pub fn line(&self) -> String {
        self.stderr.recv_timeout(PATIENCE).unwrap()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, and waits for its end.
    pub fn end(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let mut status = None;
        until("the agent ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(self.stderr.iter().collect::<Vec<_>>(), Vec::<String>::new());
        status.unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Our own child, not waited for yet, so the id is still its own; an error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One scrape.
pub struct Series(pub HashMap<String, f64>);

impl Series {
    /// A series of a group; 0 where there is none yet.
    pub fn of(&self, name: &str, comm: &str, mechanism: &str, labels: &str) -> f64 {
        let key = format!("loopscope_{name}{{comm=\"{comm}\",mechanism=\"{mechanism}\"{labels}}}");
        self.0.get(&key).copied().unwrap_or(0.0)
    }

    /// A series of an epoll group.
    pub fn epoll(&self, name: &str, comm: &str, labels: &str) -> f64 {
        self.of(name, comm, "epoll", labels)
    }
}

/// Connects and sends a text.
pub fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Status, head in lower case, and body.
pub fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream =
        send(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}
