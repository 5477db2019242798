//! The JSON of `inspect` (docs/schema/inspect.schema.json): a report on one process, and what its instances watch.
//!
//! As in [`crate::report::document`]: `None` is unknown or not applicable, never zero.

use serde::{Deserialize, Serialize};

use crate::report::{Report, document::Mechanism};

/// What `inspect` saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The report, with the loops of the process and those on its instances alone, and its instances.
    #[serde(flatten)]
    pub report: Report,
    /// The process.
    pub process: ProcessRow,
    /// The users to whom the entries of its instances are counted.
    pub users: Vec<UserRow>,
    /// What each of the instances' events are known of.
    pub delivered: Vec<DeliveredRow>,
    /// The watched descriptors: those that delivered most first.
    pub fds: Vec<FdRow>,
    /// How many more there are than `fds` has.
    pub fds_left_out: u64,
    /// Its threads that wait by poll or select, and what each waited for when it was looked at.
    pub calls: Vec<CallRow>,
}

/// A process and what it may open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRow {
    /// Process id as the host counts.
    pub pid: u32,
    /// Its name.
    pub comm: Option<String>,
    /// Path of the executable.
    pub exe: Option<String>,
    /// It ended within the window.
    pub ended: bool,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// RLIMIT_NOFILE, the soft limit; null where there is none.
    pub max_open_fds: Option<u64>,
}

/// A user and its share of what epoll may watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// User id as the host counts.
    pub uid: u32,
    /// Entries of all instances of the host that are counted to it.
    pub watches: u64,
    /// The most that it may have: /proc/sys/fs/epoll/max_user_watches.
    pub max_user_watches: Option<u64>,
}

/// Events of an instance by what is known of their entries; the four add up to what was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredRow {
    /// Our number of the instance.
    pub instance: u64,
    /// Events of entries that are known: the sum of the entries' own.
    pub known: u64,
    /// Events whose user data several entries have.
    pub ambiguous: u64,
    /// Events of entries that came, went or changed within the window.
    pub gone: u64,
    /// Events beyond the first 64 of a wait, and those that found no room.
    pub unsampled: u64,
}

/// A watched descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdRow {
    /// Our number of the instance that watches it.
    pub instance: u64,
    /// The number under which it was added.
    pub fd: u32,
    /// A process in whose table that number means the file; null where there is none.
    pub pid: Option<u32>,
    /// Events that it delivered; null where that is not known.
    pub events: Option<u64>,
    /// Why: known, ambiguous, changed, or unknown.
    pub delivered: Delivery,
    /// What is waited for, such as `in` for EPOLLIN.
    pub mask: Vec<String>,
    /// level or edge.
    pub trigger: Trigger,
    /// With EPOLLONESHOT.
    pub oneshot: bool,
    /// With EPOLLEXCLUSIVE.
    pub exclusive: bool,
    /// Whether the number still means the file.
    pub bond: Bond,
    /// tcp, udp, unix, pipe, eventfd, ...; null where no descriptor is known that means it.
    pub kind: Option<String>,
    /// Where it is in the file system.
    pub path: Option<String>,
    /// Our number of the instance that it is.
    pub nested: Option<u64>,
    /// What its socket is connected to, and how.
    pub socket: Option<SocketRow>,
    /// Events by which it is sorted: of an ambiguous one, those of its user data.
    #[serde(skip)]
    pub rank: u64,
}

/// What is known of the events of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// All that were sampled.
    Known,
    /// Other entries have the same user data.
    Ambiguous,
    /// It, or one with its user data, came, went or changed within the window.
    Changed,
    /// They were not counted.
    #[default]
    Unknown,
}

/// How an entry becomes ready again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// As long as it is ready.
    #[default]
    Level,
    /// When something new came: EPOLLET.
    Edge,
}

/// Whether an entry's number still means its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bond {
    /// In a process that waits on the instance, or that holds it where none waits.
    #[default]
    Live,
    /// Only in another process that holds the instance.
    Foreign,
    /// In none of them: the file lives on by a dup, a fork or a message.
    Stale,
}

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketRow {
    /// Address and port, or a path; an abstract name begins with @.
    pub local: Option<String>,
    /// Of a connected one; of a unix socket the other end's name, or `inode N` where it has none.
    pub remote: Option<String>,
    /// Such as `established`; null where it is of another network namespace or was never bound.
    pub state: Option<String>,
    /// Whether it takes connections.
    pub listening: bool,
    /// Bytes not read yet; of a listening socket, connections not accepted yet.
    pub receive_queue: Option<u64>,
    /// Bytes that the peer has not acknowledged yet; of a unix socket not known.
    pub send_queue: Option<u64>,
}

/// A thread that waits by poll or select, and a call of it that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRow {
    /// Thread id as the host counts.
    pub tid: u32,
    /// Its name.
    pub thread: String,
    /// poll or select.
    pub mechanism: Mechanism,
    /// Why its call could not be seen; null where it was.
    pub unseen: Option<String>,
    /// What it waited for, in the order of the call.
    pub fds: Vec<CallFdRow>,
    /// How many more there are than `fds` has.
    pub fds_left_out: u64,
}

/// A descriptor of a poll or select.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFdRow {
    /// The descriptor.
    pub fd: u32,
    /// What was waited for: as [`FdRow::mask`]; of select in, out and pri.
    pub mask: Vec<String>,
    /// As [`FdRow::kind`].
    pub kind: Option<String>,
    /// As [`FdRow::path`].
    pub path: Option<String>,
    /// As [`FdRow::socket`].
    pub socket: Option<SocketRow>,
}

impl FdRow {
    /// One with every field present, from which the columns of the CSV come.
    pub fn full() -> FdRow {
        let text = || Some(String::new());
        FdRow {
            pid: Some(0),
            events: Some(0),
            kind: text(),
            path: text(),
            nested: Some(0),
            socket: Some(SocketRow {
                local: text(),
                remote: text(),
                state: text(),
                receive_queue: Some(0),
                send_queue: Some(0),
                ..SocketRow::default()
            }),
            ..FdRow::default()
        }
    }

    /// The order of the rows: those that delivered most first, then by number.
    pub fn by_events(a: &Self, b: &Self) -> std::cmp::Ordering {
        b.rank.cmp(&a.rank).then_with(|| (a.fd, a.instance).cmp(&(b.fd, b.instance)))
    }
}
