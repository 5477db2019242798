//! Room for connections: bounded, and kept free of clients that do not get on with their request.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::timeout,
};

/// How long a connection may be without its request when others wait for its place.
const GRACE: Duration = Duration::from_millis(500);

/// The places.
pub struct Room {
    places: Arc<Semaphore>,
    /// Connections whose request is not there yet, by when they were accepted.
    asking: Mutex<BTreeMap<(Instant, u64), AbortHandle>>,
}

/// A connection's place, and its name while it has no request.
pub struct Place {
    room: Arc<Room>,
    name: (Instant, u64),
    _permit: OwnedSemaphorePermit,
}

impl Room {
    /// Room for so many connections.
    pub fn new(connections: usize) -> Room {
        Room { places: Arc::new(Semaphore::new(connections)), asking: Mutex::default() }
    }

    /// A place for the next connection, the `number`th of a listener's. Where there is none, those that have had time enough for their request
    /// are ended, so that slow clients cannot keep others out.
    pub async fn place(self: &Arc<Self>, number: u64) -> Place {
        loop {
            let permit = timeout(GRACE, Arc::clone(&self.places).acquire_owned()).await;
            // The semaphore is never closed.
            if let Ok(Ok(permit)) = permit {
                return Place { room: Arc::clone(self), name: (Instant::now(), number), _permit: permit };
            }
            let late = Instant::now().checked_sub(GRACE);
            for (_, connection) in self.asking().iter().take_while(|((since, _), _)| Some(*since) <= late) {
                connection.abort();
            }
        }
    }

    /// Notes that a connection that was just started has no request yet.
    pub fn expect(&self, name: (Instant, u64), connection: AbortHandle) {
        self.asking().insert(name, connection);
    }

    /// Waits until every place is free, or `patience` is over.
    pub async fn empty(&self, connections: usize, patience: Duration) {
        let all = u32::try_from(connections).unwrap_or(u32::MAX);
        let _ = timeout(patience, self.places.acquire_many(all)).await;
    }

    fn asking(&self) -> MutexGuard<'_, BTreeMap<(Instant, u64), AbortHandle>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Its connection is there now; gives its name for [`Room::expect`].
    pub fn taken(&mut self) -> (Instant, u64) {
        self.name.0 = Instant::now();
        self.name
    }

    /// Its request is there: it stays.
    pub fn asked(&self) {
        self.room.asking().remove(&self.name);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.asked();
    }
}
