//! The view's end: connects, asks for readings, and has the agent's windows. Never waits once it is connected, and
//! believes nothing that it reads.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::socket_peercred;

use super::{READ, READ_ALL};
use crate::{
    report::build::Origin,
    store::{Follower, Head, Step, format as wire, origin},
};

/// How long the agent may take until its first reading is here, and to answer while a view waits for nothing else.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// A running agent, and what it has said.
pub struct Remote {
    stream: UnixStream,
    head: Head,
    /// What its frames say.
    pub follower: Follower,
    /// Bytes that are no whole frame yet.
    pending: Vec<u8>,
    /// A reading was asked for and has not come.
    asked: bool,
    /// When, and how often it was wanted since.
    since: (Instant, u32),
}

impl Remote {
    /// Connects to the agent that listens at `path`; its first window has begun then. None where nobody does.
    ///
    /// # Errors
    /// It does not let us in, does not answer, is of another version, or is not the host's.
    pub fn connect(path: &Path) -> Result<Option<Remote>> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let peer = socket_peercred(&stream).context("nothing is known of who listens there")?;
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
            bail!("who listens there is neither root nor this user");
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut remote = Remote {
            head: read_head(&mut &stream)?,
            stream,
            follower: Follower::default(),
            pending: Vec::new(),
            asked: true,
            since: (Instant::now(), 0),
        };
        while !remote.take()? {}
        remote.begin();
        remote.stream.set_read_timeout(None)?;
        remote.stream.set_nonblocking(true)?;
        Ok(Some(remote))
    }

    /// Readable when [`Remote::take`] has something to take.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What the agent says of itself.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What documents say of where the windows come from.
    pub fn origin(&self) -> Origin {
        origin(&self.head, &self.follower)
    }

    /// Asks for a reading; with `interest` sets. One that was asked for and has not come is not asked for again.
    ///
    /// # Errors
    /// The agent has ended, or did not answer the last one.
    pub fn ask(&mut self, interest: bool) -> Result<()> {
        if self.asked && !interest {
            self.since.1 += 1;
            // More than once: after a stop of this process its answer may be here, and was not looked at.
            if self.since.1 > 1 && self.since.0.elapsed() > PATIENCE {
                bail!("the agent does not answer; start again, or with --standalone");
            }
            return Ok(());
        }
        (self.asked, self.since) = (true, (Instant::now(), 0));
        let request = [if interest { READ_ALL } else { READ }];
        match (&self.stream).write(&request) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(ended(Some(error))),
        }
    }

    /// Takes in what has come; whether a window that was asked for ends here.
    ///
    /// # Errors
    /// The agent has ended, or what it says is damaged.
    pub fn take(&mut self) -> Result<bool> {
        let mut piece = vec![0; PIECE];
        match (&self.stream).read(&mut piece) {
            Ok(0) => return Err(ended(None)),
            Ok(count) => self.pending.extend(piece.iter().take(count)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && !self.follower.begun => {
                bail!("the agent does not answer");
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(ended(Some(error))),
        }
        let mut has_pass = false;
        while let Some(step) = self.frame()? {
            has_pass |= step == Step::Pass;
        }
        let ends = has_pass && self.asked;
        self.asked &= !ends;
        Ok(ends)
    }

    /// Takes the first whole frame in.
    fn frame(&mut self) -> Result<Option<Step>> {
        let Some(Ok(bytes)) = self.pending.get(..wire::FRAME_HEAD).map(<&[u8; wire::FRAME_HEAD]>::try_from)
        else {
            return Ok(None);
        };
        let head = wire::FrameHead::read(bytes);
        let length = head.stored as usize;
        if length > wire::LONGEST_FRAME {
            bail!("what the agent says is damaged");
        }
        let Some(stored) = self.pending.get(wire::FRAME_HEAD..wire::FRAME_HEAD + length) else {
            return Ok(None);
        };
        let body = wire::unpack(&head, stored, 0).context("what the agent says is damaged")?;
        let step = self.follower.take(&head, &body).context("what the agent says is damaged")?;
        self.pending.drain(..wire::FRAME_HEAD + length);
        Ok(Some(step))
    }

    /// Begins the next window.
    pub fn begin(&mut self) {
        self.follower.begin(SystemTime::now());
    }
}

fn ended(error: Option<io::Error>) -> anyhow::Error {
    let why = error.map(|error| format!(" ({error})")).unwrap_or_default();
    anyhow::anyhow!("the agent has ended, or has dropped this view{why}; start again, or with --standalone")
}

/// Reads the head of what the agent says.
fn read_head(stream: &mut impl Read) -> Result<Head> {
    let silent = "the agent does not answer, or refuses";
    let mut lead = [0; wire::LEAD];
    stream.read_exact(&mut lead).context(silent)?;
    let (length, crc) = wire::lead(&lead)?;
    let mut json = vec![0; length];
    stream.read_exact(&mut json).context(silent)?;
    Ok(wire::read_head(&json, crc)?)
}
