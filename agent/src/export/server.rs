//! The HTTP server: one thread, tokio's current-thread runtime, HTTP/1.1 by hyper.
//!
//! Every resource that a client can hold is bounded: connections, their life, the time and size of a request's head,
//! scrapes in progress. It knows no metric and no probe: what it serves comes from [`Client`].

mod pages;

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{sleep, timeout},
};

use super::Client;
use pages::Pages;

/// Bounds on what clients can hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections; further ones wait to be accepted.
    pub connections: usize,
    /// Scrapes that wait for an answer; further ones are refused.
    pub scrapes: usize,
    /// From the connection to the end of a request's head.
    pub head_time: Duration,
    /// A connection's whole life.
    pub connection_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 64,
            scrapes: 16,
            head_time: Duration::from_secs(5),
            connection_time: Duration::from_secs(30),
        }
    }
}

/// Bytes of a request's head at most; hyper answers a longer one with 431.
const HEAD_BYTES: usize = 16 * 1024;

/// How long an ending server lets connections finish.
const FAREWELL: Duration = Duration::from_secs(1);

/// A pause after a failed accept: where descriptors have run out, the next one fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that runs in a thread.
pub struct Server {
    thread: thread::JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

/// Listens on every address.
///
/// # Errors
/// One of them cannot be had.
pub fn bind(addresses: &[SocketAddr]) -> Result<Vec<StdListener>> {
    let bind = |address: &SocketAddr| {
        let listener = StdListener::bind(address)
            .with_context(|| format!("cannot listen on {address}; choose another address with --listen"))?;
        listener.set_nonblocking(true).context("cannot make a socket non-blocking")?;
        Ok(listener)
    };
    addresses.iter().map(bind).collect()
}

impl Server {
    /// Serves on the listeners, in a thread of its own.
    ///
    /// # Errors
    /// There can be no thread, or no epoll instance for it.
    pub fn start(listeners: Vec<StdListener>, client: Client, limits: Limits) -> Result<Server> {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.context("cannot start the HTTP server")?;
        let listeners: Result<Vec<TcpListener>, _> = {
            let _inside = runtime.enter();
            listeners.into_iter().map(TcpListener::from_std).collect()
        };
        let listeners = listeners.context("cannot watch a socket")?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || runtime.block_on(serve(listeners, client, limits, stopped));
        let thread = thread::Builder::new().name("http".to_owned()).spawn(serve);
        Ok(Server { thread: thread.context("cannot start a thread")?, stop })
    }

    /// Accepts no more, lets connections finish for a moment, and ends the thread.
    pub fn stop(self) {
        // An error says that the thread has ended already.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

async fn serve(listeners: Vec<TcpListener>, client: Client, limits: Limits, stopped: oneshot::Receiver<()>) {
    let connections = Arc::new(Semaphore::new(limits.connections));
    let pages = Arc::new(Pages::new(client, limits.scrapes));
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(accept(listener, Arc::clone(&connections), Arc::clone(&pages), limits)))
        .collect();
    // Sent or dropped, it is the end.
    let _ = stopped.await;
    accepting.iter().for_each(tokio::task::JoinHandle::abort);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = timeout(FAREWELL, connections.acquire_many(all)).await;
}

/// Takes connections as long as there is room for them.
async fn accept(listener: TcpListener, connections: Arc<Semaphore>, pages: Arc<Pages>, limits: Limits) {
    // The semaphore is never closed.
    while let Ok(room) = Arc::clone(&connections).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, room, Arc::clone(&pages), limits))),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers one request. A connection does not stay for another one: so its life has a bound, and a scrape every few
/// seconds does not need it.
async fn connection(stream: TcpStream, room: OwnedSemaphorePermit, pages: Arc<Pages>, limits: Limits) {
    let service = service_fn(|request| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(pages.answer(request.method(), request.uri().path()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // What goes wrong on a connection is the client's matter.
    let _ = timeout(limits.connection_time, connection).await;
    drop(room);
}

#[cfg(test)]
mod tests;
