//! An agent's end and a view's end in one process: who is let in, what is bounded, and what a view makes of bad bytes.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::Arc,
    thread,
};

use loopscope_probe::{Counters, Head as RecordHead, kind};
use proptest::prelude::*;

use super::*;
use crate::{
    reactor::Reactor,
    store::{Recorder, format},
};

/// A folder of its own, private as the agent's; removed with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("loopscope-feed-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Scratch(folder)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A pass without any loop.
fn pass(now_ns: u64) -> Vec<u8> {
    let size = size_of::<RecordHead>() + size_of::<Counters>();
    let mut bytes = vec![0; size];
    bytes[..4].copy_from_slice(&(kind::COUNTERS as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&(size as u32).to_le_bytes());
    let at = std::mem::offset_of!(RecordHead, now_ns);
    bytes[at..at + 8].copy_from_slice(&now_ns.to_le_bytes());
    bytes
}

/// The opening, and the frames of one pass.
fn opening_and_pass() -> (Arc<[u8]>, Vec<Arc<[u8]>>) {
    let mut recorder = Recorder::feed();
    recorder.probes(&[], false);
    recorder.fetch();
    let opening = recorder.opening(false).unwrap();
    recorder.pass(&pass(5));
    recorder.commit(0);
    (opening, recorder.fetch())
}

/// Serves until a client wants something.
fn wanted(server: &mut Server, reactor: &Reactor) -> Wanted {
    loop {
        let wanted = server.turn(reactor);
        if wanted != Wanted::default() {
            return wanted;
        }
        thread::yield_now();
    }
}

#[test]
fn a_view_gets_a_pass_when_it_asks_and_hears_of_the_end() {
    let scratch = Scratch::new("pass");
    let reactor = Reactor::new().unwrap();
    let mut server = Server::bind(&scratch.socket(), &reactor).unwrap();
    assert_eq!(fs::metadata(&scratch.0).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(scratch.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(Server::bind(&scratch.socket(), &reactor).err().unwrap().to_string().contains("another agent"));
    // The one that looked whether somebody listens was let in, and has gone.
    assert!(wanted(&mut server, &reactor).opening);
    while !server.is_empty() {
        server.turn(&reactor);
    }
    let path = scratch.socket();
    let view = thread::spawn(move || {
        let mut remote = Remote::connect(&path).unwrap().unwrap();
        remote.ask(false).unwrap();
        // A second one before the answer is not asked.
        remote.ask(false).unwrap();
        while !remote.take().unwrap() {}
        remote.ask(true).unwrap();
        loop {
            if let Err(error) = remote.take() {
                return error.to_string();
            }
        }
    });
    while !wanted(&mut server, &reactor).opening {}
    let mut recorder = Recorder::feed();
    recorder.probes(&[], false);
    recorder.fetch();
    server.open(&recorder.opening(false).unwrap());
    recorder.pass(&pass(5));
    recorder.commit(0);
    server.send(&recorder.fetch(), &reactor);
    assert_eq!(wanted(&mut server, &reactor), Wanted { reading: true, ..Wanted::default() });
    recorder.pass(&pass(9));
    recorder.commit(0);
    server.send(&recorder.fetch(), &reactor);
    assert_eq!(wanted(&mut server, &reactor), Wanted { reading: true, interest: true, ..Wanted::default() });
    drop(server);
    let said = view.join().unwrap();
    assert!(said.contains("has ended") && said.contains("--standalone"), "{said}");
    assert!(!scratch.socket().exists());
    assert!(Remote::connect(&scratch.socket()).unwrap().is_none());
}

#[test]
fn what_a_killed_agent_left_is_replaced_and_a_folder_of_others_is_refused() {
    let scratch = Scratch::new("left");
    let reactor = Reactor::new().unwrap();
    fs::create_dir(&scratch.0).unwrap();
    drop(UnixListener::bind(scratch.socket()).unwrap());
    assert!(scratch.socket().exists());
    assert!(Remote::connect(&scratch.socket()).unwrap().is_none());
    drop(Server::bind(&scratch.socket(), &reactor).unwrap());
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o777)).unwrap();
    let why = Server::bind(&scratch.socket(), &reactor).err().unwrap().to_string();
    assert!(why.contains("others may write"), "{why}");
}

#[test]
fn who_says_nonsense_reads_nothing_or_comes_too_many_is_dropped_and_costs_nobody_else() {
    let scratch = Scratch::new("bounds");
    let reactor = Reactor::new().unwrap();
    let mut server = Server::bind(&scratch.socket(), &reactor).unwrap();
    let turns = |server: &mut Server| (0..50).for_each(|_| _ = server.turn(&reactor));
    let mut clients: Vec<UnixStream> =
        (0..12).map(|_| UnixStream::connect(scratch.socket()).unwrap()).collect();
    turns(&mut server);
    let (opening, _) = opening_and_pass();
    server.open(&opening);
    let gone = |client: &mut UnixStream| {
        client.set_nonblocking(true).unwrap();
        let mut bytes = vec![0; 1 << 20];
        loop {
            match client.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    };
    assert_eq!(clients.iter_mut().skip(8).filter_map(|client| gone(client).then_some(())).count(), 4);
    clients.truncate(8);
    clients[0].write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    turns(&mut server);
    assert!(gone(&mut clients[0]));
    // 80 MB that one client reads and another one does not.
    let frame: Arc<[u8]> = vec![7; 4 << 20].into();
    clients[1].set_nonblocking(true).unwrap();
    let (mut read, mut piece) = (0, vec![0; 1 << 20]);
    for _ in 0..20 {
        server.send(&[Arc::clone(&frame)], &reactor);
        for _ in 0..2000 {
            turns(&mut server);
            match clients[1].read(&mut piece) {
                Ok(count) => read += count,
                Err(_) => break,
            }
        }
    }
    turns(&mut server);
    while let Ok(count) = clients[1].read(&mut piece)
        && count > 0
    {
        read += count;
        turns(&mut server);
    }
    assert!(read >= 80 << 20, "{read}");
    assert!(gone(&mut clients[2]), "who does not read is dropped");
    assert!(!server.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_view_refuses_nonsense_in_one_line(
        bytes in proptest::collection::vec(any::<u8>(), 0..400), good in 0_usize..3,
        at in any::<prop::sample::Index>(), value in 1_u8..
    ) {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let scratch = Scratch::new(&format!("fuzz{}", NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        fs::create_dir(&scratch.0).unwrap();
        let listener = UnixListener::bind(scratch.socket()).unwrap();
        let (opening, frames) = opening_and_pass();
        // Nonsense alone, after a good opening, or a good pass with one byte changed.
        let mut said = if good == 0 { Vec::new() } else { opening.to_vec() };
        if good == 2 {
            said.extend(frames.concat());
            let at = at.index(said.len());
            said[at] ^= value;
        }
        said.extend(bytes);
        let agent = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(&said);
        });
        let mut why = None;
        match Remote::connect(&scratch.socket()) {
            Ok(remote) => {
                let mut remote = remote.unwrap();
                for _ in 0..1000 {
                    if let Err(error) = remote.take() {
                        why = Some(format!("{error:#}"));
                        break;
                    }
                }
            }
            Err(error) => why = Some(format!("{error:#}")),
        }
        agent.join().unwrap();
        prop_assert!(why.is_some_and(|why| !why.contains('\n')));
    }
}

#[test]
fn another_version_s_agent_is_named() {
    let scratch = Scratch::new("version");
    fs::create_dir(&scratch.0).unwrap();
    let listener = UnixListener::bind(scratch.socket()).unwrap();
    let head = crate::store::Head { layout: vec![1], agent: "9.9".to_owned(), ..Default::default() };
    let agent = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(&format::head(&head).unwrap());
    });
    let why = Remote::connect(&scratch.socket()).err().unwrap().to_string();
    agent.join().unwrap();
    assert!(why.contains("9.9"), "{why}");
}
