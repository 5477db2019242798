//! The agent's end: clients in an epoll instance of their own, which the reactor watches as one descriptor.
//!
//! Nothing here waits. What a client can hold is bounded: connections, bytes that wait to be sent to it, bytes of a
//! request. One that is slow is dropped, and nobody waits for it.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, DirBuilder, Permissions},
    io::{ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{Timespec, epoll},
    net::sockopt::socket_peercred,
};

use super::{READ, READ_ALL};

/// Views at a time; further ones are refused.
const CLIENTS: usize = 8;
/// Bytes that may wait for a client: some 20 key readings of 2,000 loops.
const WAITING: usize = 64 << 20;
/// Requests that are read at once.
const REQUESTS: usize = 64;
/// The listener's user data; clients count from 1.
const LISTENER: u64 = 0;

/// The socket and who is connected.
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
    epoll: OwnedFd,
    clients: BTreeMap<u64, Client>,
    last: u64,
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
    pub fn bind(path: &Path) -> Result<Server> {
        prepare(path)?;
        let listener = UnixListener::bind(path).context("cannot listen")?;
        // Whoever connects before this is refused by what the kernel says of him.
        fs::set_permissions(path, Permissions::from_mode(0o600)).context("cannot make it private")?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        Ok(Server { path: path.to_owned(), listener, epoll, clients: BTreeMap::new(), last: LISTENER })
    }

    /// Readable when [`Server::turn`] has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Serves everybody who is ready, and says what they want.
    ///
    /// # Errors
    /// epoll_wait fails.
    pub fn turn(&mut self) -> Result<Wanted> {
        let mut ready = Vec::with_capacity(CLIENTS + 1);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), Some(&Timespec::default()))
        {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait fails"),
        }
        let mut wanted = Wanted::default();
        for event in &ready {
            let (name, flags) = (event.data, event.flags);
            match name.u64() {
                LISTENER => wanted.opening |= self.accept(),
                name => self.serve(name, flags, &mut wanted),
            }
        }
        Ok(wanted)
    }

    /// Sends the opening to those who are new.
    pub fn open(&mut self, opening: &Arc<[u8]>) {
        for client in self.clients.values_mut().filter(|client| !client.opened) {
            client.opened = true;
            client.push(opening);
        }
    }

    /// Sends frames to all.
    pub fn send(&mut self, frames: &[Arc<[u8]>]) {
        if frames.is_empty() {
            return;
        }
        let mut gone = Vec::new();
        for (name, client) in self.clients.iter_mut().filter(|(_, client)| client.opened) {
            frames.iter().for_each(|frame| client.push(frame));
            if client.waiting > WAITING || client.flush(&self.epoll, *name).is_err() {
                gone.push(*name);
            }
        }
        gone.iter().for_each(|name| drop(self.clients.remove(name)));
    }

    /// Ends all connections: what they would get now would be wrong.
    pub fn drop_all(&mut self) {
        self.clients.clear();
    }

    /// Takes a connection; whether its client may have what is here.
    fn accept(&mut self) -> bool {
        let Ok((stream, _)) = self.listener.accept() else { return false };
        let own = rustix::process::geteuid();
        let may = socket_peercred(&stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid == own);
        if !may || self.clients.len() >= CLIENTS || stream.set_nonblocking(true).is_err() {
            return false;
        }
        self.last += 1;
        let data = epoll::EventData::new_u64(self.last);
        if epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN).is_err() {
            return false;
        }
        let client = Client {
            stream,
            queue: VecDeque::new(),
            sent: 0,
            waiting: 0,
            opened: false,
            full: false,
            armed: false,
        };
        self.clients.insert(self.last, client);
        true
    }

    /// Reads what a client asks for, and sends what there is room for.
    fn serve(&mut self, name: u64, flags: epoll::EventFlags, wanted: &mut Wanted) {
        let Some(client) = self.clients.get_mut(&name) else { return };
        let mut stays = true;
        if flags.contains(epoll::EventFlags::OUT) {
            client.full = false;
            stays = client.flush(&self.epoll, name).is_ok();
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            stays &= client.requests(wanted);
        }
        if !stays {
            self.clients.remove(&name);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Client {
    fn push(&mut self, frame: &Arc<[u8]>) {
        self.waiting += frame.len();
        self.queue.push_back(Arc::clone(frame));
    }

    /// Sends as much as the kernel takes; the rest when it says that there is room.
    fn flush(&mut self, epoll: &OwnedFd, name: u64) -> Result<()> {
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
            let out = if self.full { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(name);
            epoll::modify(epoll, &self.stream, data, epoll::EventFlags::IN | out)?;
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
