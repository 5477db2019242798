//! What the threads of a process wait for by poll and select: each is looked at until it is seen inside its call, for a
//! bounded time. Between two looks it sleeps; nothing here stops a thread.

use std::{collections::BTreeMap, thread, time::Duration};

use super::{
    build,
    document::{CallFdRow, CallRow},
    events,
};
use crate::{
    identity::{
        files::Files,
        polled::{self, Polled, Unseen},
    },
    model::Window,
    report::document::Mechanism,
};

/// How often each thread is looked at, at most.
const LOOKS: u32 = 50;
/// Between two looks: all of them take a tenth of a second.
const PAUSE: Duration = Duration::from_millis(2);
/// Threads that are looked at.
const THREADS: usize = 64;

/// What became of a thread.
type Seen = Result<Polled, Unseen>;

/// The threads of a process that wait by poll or select, and what each waits for: `most` descriptors of it at most.
pub fn rows(pid: u32, window: &Window, most: usize, files: &mut Files) -> Vec<CallRow> {
    let own = window.loops.iter().filter(|looped| looped.thread.tgid == pid && !looped.thread.ended);
    let waiters: BTreeMap<(u32, Mechanism), &str> = own
        .filter_map(|looped| {
            let mechanism = Mechanism::from_number(looped.mechanism)?;
            Some(((looped.thread.tid, mechanism), looped.thread.thread.as_str()))
        })
        .filter(|((_, mechanism), _)| matches!(mechanism, Mechanism::Poll | Mechanism::Select))
        .collect();
    let mut seen: BTreeMap<(u32, Mechanism), Seen> =
        waiters.keys().take(THREADS).map(|waiter| (*waiter, Err(Unseen::Elsewhere))).collect();
    look(&mut seen, |tid| polled::look(pid, tid));
    let row = |((tid, mechanism), thread): ((u32, Mechanism), &str)| {
        let (fds, left_out, unseen) = match seen.get(&(tid, mechanism)) {
            Some(Ok(polled)) => (polled.fds.as_slice(), polled.left_out, None),
            Some(Err(unseen)) => (&[][..], 0, Some(unseen.reason().to_owned())),
            None => (&[][..], 0, Some(format!("only {THREADS} threads are looked at"))),
        };
        CallRow {
            tid,
            thread: thread.to_owned(),
            mechanism,
            fds_left_out: left_out + fds.len().saturating_sub(most) as u64,
            fds: fds.iter().take(most).map(|(fd, mask)| fd_row(pid, *fd, *mask, files)).collect(),
            unseen,
        }
    };
    waiters.into_iter().map(row).collect()
}

/// Looks at the threads that were not seen yet, again and again.
fn look(waiters: &mut BTreeMap<(u32, Mechanism), Seen>, look: impl Fn(u32) -> Seen) {
    for turn in 0..LOOKS {
        let mut left = false;
        for ((tid, mechanism), seen) in
            waiters.iter_mut().filter(|(_, seen)| **seen == Err(Unseen::Elsewhere))
        {
            let by_select = *mechanism == Mechanism::Select;
            // A thread may wait by both.
            *seen = look(*tid).and_then(|polled| match polled.by_select == by_select {
                true => Ok(polled),
                false => Err(Unseen::Elsewhere),
            });
            left |= *seen == Err(Unseen::Elsewhere);
        }
        if !left || turn + 1 == LOOKS {
            return;
        }
        thread::sleep(PAUSE);
    }
}

fn fd_row(pid: u32, fd: u32, mask: u32, files: &mut Files) -> CallFdRow {
    let (kind, path, socket) = build::parts(files.get(pid, fd));
    CallFdRow { fd, mask: events::words(mask), kind, path, socket }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_thread_is_looked_at_until_it_is_in_the_call_of_its_row() {
        let turns = Cell::new(0);
        let mut waiters = BTreeMap::from([
            ((1, Mechanism::Poll), Err(Unseen::Elsewhere)),
            ((1, Mechanism::Select), Err(Unseen::Elsewhere)),
            ((2, Mechanism::Poll), Err(Unseen::Elsewhere)),
        ]);
        look(&mut waiters, |tid| {
            turns.set(turns.get() + 1);
            let by_select = turns.get() > 6;
            if tid == 2 { Err(Unseen::Ended) } else { Ok(Polled { by_select, ..Polled::default() }) }
        });
        assert_eq!(waiters[&(1, Mechanism::Poll)], Ok(Polled::default()));
        assert_eq!(waiters[&(1, Mechanism::Select)], Ok(Polled { by_select: true, ..Polled::default() }));
        assert_eq!(waiters[&(2, Mechanism::Poll)], Err(Unseen::Ended));
        assert!(turns.get() < 10);
    }
}
