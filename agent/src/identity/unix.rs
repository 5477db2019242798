//! The other ends of unix sockets, which no table of /proc has: the kernel tells them by sock_diag(7), in the network
//! namespace of who asks (net/unix/diag.c). So a thread that ends at once goes into the process's. Changes nothing there.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    unix::{ShowFlags, StateFlags, UnixRequest, UnixResponse, nlas::Nla},
};
use rustix::{
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// How long the kernel may take for a piece of its answer; it has it at hand.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a piece; the kernel fills 32 KB at most (net/netlink/af_netlink.c: netlink_dump).
const PIECE: usize = 64 << 10;

/// What sock_diag says of a unix socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Inode number of the socket that it is connected to.
    pub peer: Option<u64>,
    /// Bytes to be read; of a listening one, connections that were not accepted yet. (What was sent and not read yet the kernel
    /// gives as memory, not as bytes.)
    pub receive_queue: Option<u64>,
}

/// The unix sockets of a process's network namespace, by inode number.
///
/// # Errors
/// The process has gone, its namespace may not be entered, or the kernel has no sock_diag for unix sockets.
pub fn ends(pid: u32) -> Result<HashMap<u64, Ends>> {
    let place = |of: &str| PathBuf::from(format!("/proc/{of}/ns/net"));
    let theirs = place(&pid.to_string());
    let link = fs::read_link(&theirs).context("the process has no network namespace")?;
    if fs::read_link(place("self")).is_ok_and(|own| own == link) {
        return dump();
    }
    let namespace = File::open(&theirs)?;
    let inside = || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .context("cannot enter the process's network namespace")?;
        dump()
    };
    // Of the thread alone, which ends with it.
    thread::scope(|scope| scope.spawn(inside).join()).map_err(|_| anyhow!("a thread ended early"))?
}

/// Asks for all sockets of the running thread's namespace.
fn dump() -> Result<HashMap<u64, Ends>> {
    let socket = ask().context("cannot ask for unix sockets")?;
    let mut ends = HashMap::new();
    let mut piece = vec![0; PIECE];
    loop {
        let (length, _) =
            recv(&socket, &mut piece, RecvFlags::empty()).context("no answer about unix sockets")?;
        let mut rest = piece.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)?;
            let length = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(ends),
                NetlinkPayload::Error(error) => bail!("the kernel says of unix sockets: {error}"),
                NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(response)) => {
                    ends.insert(response.header.inode.into(), of_response(&response));
                }
                _ => {}
            }
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
        if length == 0 {
            bail!("the answer about unix sockets has no end");
        }
    }
}

/// A socket to the kernel that was asked.
fn ask() -> Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let request = UnixRequest {
        // Datagram sockets are in neither of the two states that have names.
        state_flags: StateFlags::from_bits_retain(u32::MAX),
        inode: 0,
        show_flags: ShowFlags::PEER | ShowFlags::RQLEN,
        cookie: [0xff; 8],
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::UnixRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    send(&socket, &bytes, SendFlags::empty())?;
    Ok(socket)
}

fn of_response(response: &UnixResponse) -> Ends {
    let receive_queue = response.nlas.iter().find_map(|nla| match nla {
        Nla::ReceiveQueueLength(receive, _) => Some(u64::from(*receive)),
        _ => None,
    });
    Ends { peer: response.peer().map(u64::from), receive_queue }
}
