//! What a descriptor of another process is, by what /proc says: its link, and for a socket the tables of the process's
//! own network namespace. Names and addresses are as others chose them: whoever prints them has to make them safe.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
    path::{Path, PathBuf},
};

use super::unix;

/// What a descriptor is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// tcp, udp, unix or another protocol; pipe, eventfd, timerfd, signalfd, inotify, epoll, tty, file, ...
    pub kind: String,
    /// The link of /proc/PID/fd: tells two sockets or two pipes apart.
    pub link: String,
    /// Where it is in the file system.
    pub path: Option<String>,
    /// Of a socket, what its tables say.
    pub socket: Option<Socket>,
}

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Inode number, which no two sockets have at once.
    pub inode: u64,
    /// Address and port, or a path; an abstract name begins with @.
    pub local: Option<String>,
    /// Of a connected one. Of a unix socket the other end's name, or `inode N` where it has none.
    pub remote: Option<String>,
    /// As `ss` calls it; None where it is in no table: of another network namespace, or never bound.
    pub state: Option<&'static str>,
    /// Whether it takes connections.
    pub listening: bool,
    /// Bytes that the process has not read yet; of a listening socket, connections that it has not accepted yet.
    pub receive_queue: Option<u64>,
    /// Bytes that the peer has not acknowledged yet; not known of a unix socket.
    pub send_queue: Option<u64>,
}

/// The descriptors of processes, and the sockets of their network namespaces, read once.
#[derive(Default)]
pub struct Files {
    processes: HashMap<u32, Sockets>,
    /// Why the other ends of unix sockets that were asked for are not known, by process.
    lacks: BTreeMap<u32, String>,
}

/// The sockets of a process's network namespace.
#[derive(Default)]
struct Sockets {
    /// By inode number, with the protocol.
    known: HashMap<u64, (&'static str, Socket)>,
    /// The other ends of its unix sockets, or why they are not known; None where nobody asked.
    ends: Option<Result<HashMap<u64, unix::Ends>, String>>,
}

/// The tables: name, protocol, and how a line is read.
const TABLES: [(&str, &str, Reader); 5] = [
    ("tcp", "tcp", inet_line),
    ("tcp6", "tcp", inet_line),
    ("udp", "udp", inet_line),
    ("udp6", "udp", inet_line),
    ("unix", "unix", unix_line),
];
type Reader = fn(&str) -> Option<Socket>;

/// States of TCP (include/net/tcp_states.h), from 1 on.
const TCP_STATES: [&str; 13] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_recv",
    "bound",
];
/// States of unix sockets (include/uapi/linux/net.h), from 0 on.
const UNIX_STATES: [&str; 5] = ["free", "unconnected", "connecting", "connected", "disconnecting"];
/// Flag of a listening unix socket: __SO_ACCEPTCON.
const ACCEPTS: u32 = 1 << 16;

impl Files {
    /// What a descriptor of a process is; None where it is not open.
    pub fn get(&mut self, pid: u32, fd: u32) -> Option<File> {
        let mut file = self.without_other_end(pid, fd)?;
        if let ("unix", Some(socket)) = (file.kind.as_str(), &mut file.socket) {
            let sockets = self.processes.entry(pid).or_default();
            match sockets.ends.get_or_insert_with(|| unix::ends(pid).map_err(|error| format!("{error:#}"))) {
                Ok(ends) => {
                    let ends = ends.get(&socket.inode).copied().unwrap_or_default();
                    socket.remote = ends.peer.map(|peer| sockets.name(peer));
                    socket.receive_queue = ends.receive_queue;
                }
                Err(why) => _ = self.lacks.entry(pid).or_insert_with(|| why.clone()),
            }
        }
        Some(file)
    }

    fn without_other_end(&mut self, pid: u32, fd: u32) -> Option<File> {
        let place = place(pid, fd);
        let link = link(&place)?;
        let inner = |prefix| link.strip_prefix(prefix)?.strip_suffix(']');
        if let Some(inode) = inner("socket:[").and_then(|inode| inode.parse().ok()) {
            let (kind, socket) = self.socket(pid, inode, &place);
            return Some(File { kind, link, path: None, socket: Some(socket) });
        }
        let (kind, path) = if inner("pipe:[").is_some() {
            ("pipe".to_owned(), None)
        } else if let Some(name) = link.strip_prefix("anon_inode:") {
            (anonymous(name), None)
        } else {
            (by_type(&place, &link).to_owned(), Some(link.clone()))
        };
        Some(File { kind, link, path, socket: None })
    }

    /// The address of a listening socket: of TCP alone without its protocol. None where the descriptor is none.
    pub fn listener(&mut self, pid: u32, fd: u32) -> Option<String> {
        let file = self.without_other_end(pid, fd)?;
        let socket = file.socket.filter(|socket| socket.listening)?;
        let local = socket.local.unwrap_or_else(|| format!("inode {}", socket.inode));
        Some(if file.kind == "tcp" { local } else { format!("{}:{local}", file.kind) })
    }

    /// What of all that was asked for is not known, and why.
    pub fn lacks(&self) -> impl Iterator<Item = String> {
        self.lacks
            .iter()
            .map(|(pid, why)| format!("the other ends of process {pid}'s unix sockets are not known: {why}"))
    }

    /// A socket by its inode number, as the tables of its process's namespace have it.
    fn socket(&mut self, pid: u32, inode: u64, place: &Path) -> (String, Socket) {
        let sockets = self.processes.entry(pid).or_insert_with(|| Sockets::of(pid));
        match sockets.known.get(&inode) {
            Some((kind, socket)) => ((*kind).to_owned(), socket.clone()),
            None => (protocol(place), Socket { inode, ..Socket::default() }),
        }
    }
}

/// The link of a descriptor of a process, which tells whether it is still what it was; None where it is not open.
pub fn link_of(pid: u32, fd: u32) -> Option<String> {
    link(&place(pid, fd))
}

fn place(pid: u32, fd: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/fd/{fd}"))
}

fn link(place: &Path) -> Option<String> {
    let link = fs::read_link(place).ok()?;
    Some(String::from_utf8_lossy(link.as_os_str().as_bytes()).into_owned())
}

/// The kind behind `anon_inode:NAME`: most names are in brackets.
fn anonymous(name: &str) -> String {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    match name {
        "eventpoll" => "epoll".to_owned(),
        name => name.to_owned(),
    }
}

/// The kind of what has a path.
fn by_type(place: &Path, path: &str) -> &'static str {
    let Ok(file_type) = fs::metadata(place).map(|data| data.file_type()) else {
        return "file";
    };
    let is_tty = || ["/dev/pts/", "/dev/tty", "/dev/console"].iter().any(|start| path.starts_with(start));
    match () {
        () if file_type.is_fifo() => "pipe",
        () if file_type.is_char_device() && is_tty() => "tty",
        () if file_type.is_char_device() || file_type.is_block_device() => "device",
        () if file_type.is_dir() => "directory",
        () => "file",
    }
}

/// The protocol of a socket that is in no table, as the kernel names it: TCP, UNIX-STREAM, NETLINK, ...
fn protocol(place: &Path) -> String {
    let mut name = [0; 64];
    let length = rustix::fs::getxattr(place, "system.sockprotoname", &mut name[..]).unwrap_or(0);
    let name = String::from_utf8_lossy(name.get(..length).unwrap_or_default()).to_lowercase();
    let name = name.trim_end_matches('\0').trim_end_matches("v6");
    match name.split('-').next() {
        None | Some("") => "socket".to_owned(),
        Some(name) => name.to_owned(),
    }
}

impl Sockets {
    fn of(pid: u32) -> Sockets {
        let mut sockets = Sockets::default();
        for (table, protocol, read) in TABLES {
            let bytes = fs::read(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            for socket in text.lines().skip(1).filter_map(read) {
                sockets.take(protocol, socket);
            }
        }
        sockets
    }

    /// Takes a socket in. A unix socket's name may hold a line feed, and so seem to be another line: where two lines are of
    /// the same inode, neither is believed, and a line of unix sockets does not stand in for one of TCP.
    fn take(&mut self, protocol: &'static str, socket: Socket) {
        let inode = socket.inode;
        match self.known.get_mut(&inode) {
            None => {
                self.known.insert(inode, (protocol, socket));
            }
            Some((known, earlier)) if *known == "unix" => *earlier = Socket { inode, ..Socket::default() },
            Some(_) => {}
        }
    }

    /// The name of a unix socket, or its inode number.
    fn name(&self, inode: u64) -> String {
        let known = self.known.get(&inode).filter(|(kind, _)| *kind == "unix");
        known.and_then(|(_, socket)| socket.local.clone()).unwrap_or_else(|| format!("inode {inode}"))
    }
}

/// A line of tcp, tcp6, udp or udp6 (net/ipv4/tcp_ipv4.c: get_tcp4_sock).
fn inet_line(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let field = |i: usize| fields.get(i).copied();
    let (local, remote) = (address(field(1)?)?, address(field(2)?)?);
    let state = usize::from_str_radix(field(3)?, 16).ok()?;
    let (send, receive) = field(4)?.split_once(':')?;
    let queue = |hex| u64::from_str_radix(hex, 16).ok();
    let inode = field(9)?.parse().ok().filter(|inode| *inode != 0)?;
    let state = state.checked_sub(1).and_then(|state| TCP_STATES.get(state)).copied();
    let is_connected = remote.port() != 0 || !remote.ip().is_unspecified();
    Some(Socket {
        inode,
        local: Some(local.to_string()),
        remote: is_connected.then(|| remote.to_string()),
        state,
        listening: state == Some("listen"),
        receive_queue: queue(receive),
        send_queue: queue(send),
    })
}

/// `0100007F:1F90`: words of the address as this machine reads them from network order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |i: usize| u32::from_str_radix(words.get(i * 8..i * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match words.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (i, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(i)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// A line of unix (net/unix/af_unix.c: unix_seq_show): `address: references protocol flags type state inode name`.
fn unix_line(line: &str) -> Option<Socket> {
    let mut rest = line;
    let mut next = || {
        let text = rest.trim_start_matches(' ');
        let (field, after) = text.split_once(' ').unwrap_or((text, ""));
        rest = after;
        field
    };
    let [_, _, _, flags, _, state, inode] = [(); 7].map(|()| next());
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let state = usize::from_str_radix(state, 16).ok()?;
    let inode = inode.parse().ok().filter(|inode| *inode != 0)?;
    let listening = flags & ACCEPTS != 0;
    Some(Socket {
        inode,
        local: (!rest.is_empty()).then(|| rest.to_owned()),
        state: if listening { Some("listen") } else { UNIX_STATES.get(state).copied() },
        listening,
        ..Socket::default()
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream, UdpSocket},
        os::fd::AsRawFd,
        os::unix::net::{UnixListener, UnixStream},
    };

    use super::*;

    fn own(fd: &impl AsRawFd) -> File {
        Files::default().get(std::process::id(), fd.as_raw_fd().cast_unsigned()).unwrap()
    }

    #[test]
    fn tcp_sockets_have_addresses_states_and_queues() {
        for place in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(place).unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let stream = TcpStream::connect(&address).unwrap();
            let waiting = own(&listener).socket.unwrap();
            assert_eq!((waiting.local.as_deref(), waiting.remote.as_deref()), (Some(address.as_str()), None));
            assert_eq!(
                (waiting.state, waiting.listening, waiting.receive_queue),
                (Some("listen"), true, Some(1))
            );
            let (peer, _) = listener.accept().unwrap();
            std::io::Write::write_all(&mut &peer, b"seven b").unwrap();
            let (file, own_address) = (own(&stream), stream.local_addr().unwrap().to_string());
            let socket = file.socket.unwrap();
            assert_eq!((file.kind.as_str(), socket.state), ("tcp", Some("established")));
            assert_eq!((socket.local.unwrap(), socket.remote.unwrap()), (own_address, address));
            assert_eq!((socket.listening, socket.receive_queue), (false, Some(7)));
        }
    }

    #[test]
    fn other_sockets_are_known_by_their_protocol() {
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = own(&datagrams);
        assert_eq!(file.kind, "udp");
        assert_eq!(file.socket.unwrap().local, Some(datagrams.local_addr().unwrap().to_string()));
        let path = std::env::temp_dir().join(format!("loopscope test {}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        let (waiting, (accepted, _)) = (own(&listener), listener.accept().unwrap());
        fs::remove_file(&path).unwrap();
        let socket = waiting.socket.unwrap();
        assert_eq!((waiting.kind.as_str(), socket.listening, socket.state), ("unix", true, Some("listen")));
        assert_eq!(socket.local.as_deref(), path.to_str());
        let accepted = own(&accepted);
        assert_eq!((accepted.kind.as_str(), accepted.socket.unwrap().state), ("unix", Some("connected")));
    }

    #[test]
    fn a_unix_socket_has_the_name_of_its_other_end_or_its_inode_and_its_queue() {
        let path = std::env::temp_dir().join(format!("loopscope ends {}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let waiting = own(&listener).socket.unwrap();
        assert_eq!((waiting.receive_queue, waiting.remote), (Some(1), None));
        let (accepted, _) = listener.accept().unwrap();
        fs::remove_file(&path).unwrap();
        std::io::Write::write_all(&mut &client, b"five!").unwrap();
        let (ours, theirs) = (own(&client).socket.unwrap(), own(&accepted).socket.unwrap());
        assert_eq!((ours.remote.as_deref(), ours.receive_queue), (path.to_str(), Some(0)));
        assert_eq!((theirs.remote, theirs.receive_queue), (Some(format!("inode {}", ours.inode)), Some(5)));
    }

    #[test]
    fn a_unix_socket_of_another_network_namespace_has_its_other_end() {
        use rustix::thread::{UnshareFlags, unshare_unsafe};
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let inside = std::thread::spawn(move || {
            // SAFETY: a namespace of this thread's own; it shares its descriptors with the others as before.
            if let Err(error) = unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
                return tell.send(Err(error)).unwrap();
            }
            let pair = UnixStream::pair().unwrap();
            let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
            tell.send(Ok((tid, pair.0.as_raw_fd().cast_unsigned(), pair.1.as_raw_fd().cast_unsigned())))
                .unwrap();
            let _ = ended.recv();
        });
        let (tid, left, right) = match told.recv().unwrap() {
            Ok(told) => told,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "no network namespace: {error}");
                return eprintln!("skipped: no network namespace: {error}");
            }
        };
        let mut files = Files::default();
        let [left, right] = [left, right].map(|fd| files.get(tid, fd).unwrap().socket.unwrap());
        assert_eq!(files.lacks().count(), 0);
        assert_eq!(left.remote, Some(format!("inode {}", right.inode)));
        assert_eq!(right.remote, Some(format!("inode {}", left.inode)));
        drop(end);
        inside.join().unwrap();
    }

    #[test]
    fn what_is_no_socket_is_known_by_its_link() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(own(&reader).kind, "pipe");
        let null = fs::File::open("/dev/null").unwrap();
        assert_eq!((own(&null).kind.as_str(), own(&null).path.as_deref()), ("device", Some("/dev/null")));
        assert_eq!(anonymous("[eventpoll]"), "epoll");
        assert_eq!(anonymous("inotify"), "inotify");
        assert_eq!(Files::default().get(std::process::id(), 1 << 20), None);
    }

    #[test]
    fn a_name_that_pretends_to_be_a_line_is_not_believed() {
        let mut sockets = Sockets::default();
        for line in ["0: 2 0 0 1 3 77 /run/a b", "0: 2 0 10000 1 1 77 /forged"] {
            sockets.take("unix", unix_line(line).unwrap());
        }
        assert_eq!(sockets.known.get(&77), Some(&("unix", Socket { inode: 77, ..Socket::default() })));
        let listening = unix_line("0000: 00000002 00000000 00010000 0001 01 12 @a b").unwrap();
        assert_eq!((listening.local.as_deref(), listening.listening), (Some("@a b"), true));
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_a_panic(line in "[ -~é:]{0,80}") {
            let _ = (inet_line(&line), unix_line(&line), address(&line));
        }
    }
}
