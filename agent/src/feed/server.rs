//! The agent's end: the socket and its clients, which the reactor watches. Which of them is ready it does not say: they are
//! few, and all are tried.
//!
//! Nothing here waits. What a client can hold is bounded: connections, bytes that wait to be sent to it, bytes of a
//! request. One that is slow is dropped, and nobody waits for it.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, Permissions},
    io::{ErrorKind, Read, Write},
    os::{
        fd::AsFd,
        unix::{
            fs::{DirBuilderExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::socket_peercred;

use super::{READ, READ_ALL};
use crate::reactor::Reactor;

/// Views at a time; further ones are refused.
const CLIENTS: usize = 8;
/// Bytes that may wait for a client: some 20 key readings of 2,000 loops.
const WAITING: usize = 64 << 20;
/// Requests that are read at once.
const REQUESTS: usize = 64;
/// Connections that are taken at once; further ones next time.
const ACCEPTED: usize = 16;

/// The socket and who is connected.
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
    clients: Vec<Client>,
}

/// A view.
struct Client {
    stream: UnixStream,
    /// Frames that were not sent yet.
    queue: VecDeque<Arc<[u8]>>,
    /// Bytes of the first of them that were.
    sent: usize,
    /// Bytes in them.
    waiting: usize,
    /// It has got the opening.
    opened: bool,
    /// The kernel has no room for more.
    full: bool,
    /// It is asked to say when it has.
    armed: bool,
}

/// What clients ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Some are new: see [`Server::open`].
    pub opening: bool,
    /// A reading.
    pub reading: bool,
    /// With interest sets.
    pub interest: bool,
}

impl Server {
    /// Makes the socket, and its folder where there is none. One that an agent which was killed has left is replaced.
    ///
    /// # Errors
    /// Another agent listens there, others may write to the folder, or it cannot be made.
    pub fn bind(path: &Path, reactor: &Reactor) -> Result<Server> {
        prepare(path)?;
        let listener = UnixListener::bind(path).context("cannot listen")?;
        let server = Server { path: path.to_owned(), listener, clients: Vec::new() };
        // Whoever connects before this is refused by what the kernel says of him.
        fs::set_permissions(path, Permissions::from_mode(0o600)).context("cannot make it private")?;
        server.listener.set_nonblocking(true)?;
        reactor.watch_feed(server.listener.as_fd())?;
        Ok(server)
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Serves everybody who is ready, and says what they want.
    pub fn turn(&mut self, reactor: &Reactor) -> Wanted {
        let mut wanted = Wanted::default();
        self.clients.retain_mut(|client| {
            client.full = false;
            client.flush(reactor).is_ok() && client.requests(&mut wanted)
        });
        for _ in 0..ACCEPTED {
            let Ok((stream, _)) = self.listener.accept() else { break };
            if self.clients.len() < CLIENTS
                && let Some(client) = Client::admit(stream, reactor)
            {
                self.clients.push(client);
                wanted.opening = true;
            }
        }
        wanted
    }

    /// Sends the opening to those who are new.
    pub fn open(&mut self, opening: &Arc<[u8]>) {
        for client in self.clients.iter_mut().filter(|client| !client.opened) {
            client.opened = true;
            client.push(opening);
        }
    }

    /// Sends frames to all.
    pub fn send(&mut self, frames: &[Arc<[u8]>], reactor: &Reactor) {
        self.clients.retain_mut(|client| {
            if client.opened {
                frames.iter().for_each(|frame| client.push(frame));
            }
            client.waiting <= WAITING && client.flush(reactor).is_ok()
        });
    }

    /// Ends all connections: what they would get now would be wrong.
    pub fn drop_all(&mut self) {
        self.clients.clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Client {
    /// Takes a connection, if its other end may have what is here: root, or the agent's own user.
    fn admit(stream: UnixStream, reactor: &Reactor) -> Option<Client> {
        let peer = socket_peercred(&stream).ok()?;
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
            return None;
        }
        stream.set_nonblocking(true).ok()?;
        reactor.watch_feed(stream.as_fd()).ok()?;
        Some(Client {
            stream,
            queue: VecDeque::new(),
            sent: 0,
            waiting: 0,
            opened: false,
            full: false,
            armed: false,
        })
    }

    fn push(&mut self, frame: &Arc<[u8]>) {
        self.waiting += frame.len();
        self.queue.push_back(Arc::clone(frame));
    }

    /// Sends as much as the kernel takes; the rest when it says that there is room.
    fn flush(&mut self, reactor: &Reactor) -> Result<()> {
        while let Some(front) = self.queue.front()
            && !self.full
        {
            match self.stream.write(front.get(self.sent..).unwrap_or_default()) {
                Ok(0) => bail!("nothing is taken"),
                Ok(count) => {
                    self.sent += count;
                    self.waiting = self.waiting.saturating_sub(count);
                    if self.sent >= front.len() {
                        self.queue.pop_front();
                        self.sent = 0;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.full = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.full != self.armed {
            reactor.watch_feed_room(self.stream.as_fd(), self.full)?;
            self.armed = self.full;
        }
        Ok(())
    }

    /// Reads requests; false where the client has gone, or says what is none.
    fn requests(&mut self, wanted: &mut Wanted) -> bool {
        let mut bytes = [0; REQUESTS];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => bytes.iter().take(count).all(|byte| match *byte {
                READ => {
                    wanted.reading = true;
                    true
                }
                READ_ALL => {
                    (wanted.reading, wanted.interest) = (true, true);
                    true
                }
                _ => false,
            }),
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
}

/// Makes the folder, and takes away what an agent that was killed has left.
fn prepare(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.context("a path with a folder is wanted")?;
    if !folder.exists() {
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let data = fs::metadata(folder)?;
    let own = rustix::process::geteuid().as_raw();
    // Who can write there can put another socket in the place of ours.
    if ![0, own].contains(&data.uid()) || data.mode() & 0o022 != 0 {
        bail!("others may write to the folder {}", folder.display());
    }
    if UnixStream::connect(path).is_ok() {
        bail!("another agent listens there");
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("cannot replace it"),
        _ => Ok(()),
    }
}
