//! The HTTP server: one thread, tokio's current-thread runtime, HTTP/1.1 by hyper.
//!
//! Every resource that a client can hold is bounded: connections, their life, the time and size of a request's head,
//! scrapes in progress. It knows no metric and no probe: what it serves comes from [`Client`].

mod gzip;
#[cfg(feature = "native-histograms")]
mod native;
mod pages;
mod room;
mod users;

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, CONTENT_ENCODING, HeaderValue, VARY, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime,
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Client, web::Web};
pub use gzip::Gzip;
use pages::{CLASSIC, Form, Pages, Text};
use room::{Place, Room};
use users::Admission;
pub use users::Users;

/// Bounds on what clients can hold, and what they are offered.
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
    /// Native histograms for those who ask for protobuf.
    pub native: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 256,
            scrapes: 40,
            head_time: Duration::from_secs(5),
            connection_time: Duration::from_secs(30),
            native: false,
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
    web: Arc<RwLock<Arc<Web>>>,
}

/// What connections share.
struct Shared {
    room: Arc<Room>,
    pages: Pages,
    gzip: Gzip,
    web: Arc<RwLock<Arc<Web>>>,
    limits: Limits,
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
    /// Serves on the listeners, in a thread of its own, which calls `begin` first.
    ///
    /// # Errors
    /// There can be no thread, or no epoll instance for it.
    pub fn start(
        listeners: Vec<StdListener>,
        client: Client,
        limits: Limits,
        web: Web,
        begin: impl FnOnce() + Send + 'static,
    ) -> Result<Server> {
        // A thread of tokio's for passwords; everything else is done in one.
        let runtime =
            runtime::Builder::new_current_thread().enable_io().enable_time().max_blocking_threads(1).build();
        let runtime = runtime.context("cannot start the HTTP server")?;
        let listeners: Result<Vec<TcpListener>, _> = {
            let _inside = runtime.enter();
            listeners.into_iter().map(TcpListener::from_std).collect()
        };
        let listeners = listeners.context("cannot watch a socket")?;
        let (stop, stopped) = oneshot::channel();
        let web = Arc::new(RwLock::new(Arc::new(web)));
        let shared = Arc::new(Shared {
            room: Arc::new(Room::new(limits.connections)),
            pages: Pages::new(client, limits.scrapes),
            gzip: Gzip::default(),
            web: Arc::clone(&web),
            limits,
        });
        let serve = move || {
            begin();
            runtime.block_on(serve(listeners, shared, stopped));
        };
        let thread = thread::Builder::new().name("http".to_owned()).spawn(serve);
        Ok(Server { thread: thread.context("cannot start a thread")?, stop, web })
    }

    /// Serves connections from now on with other certificates and users.
    pub fn reload(&self, web: Web) {
        *self.web.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(web);
    }

    /// Accepts no more, lets connections finish for a moment, and ends the thread.
    pub fn stop(self) {
        // An error says that the thread has ended already.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

async fn serve(listeners: Vec<TcpListener>, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let accepting: Vec<_> =
        listeners.into_iter().map(|listener| tokio::spawn(accept(listener, Arc::clone(&shared)))).collect();
    // Sent or dropped, it is the end.
    let _ = stopped.await;
    accepting.iter().for_each(tokio::task::JoinHandle::abort);
    shared.room.empty(shared.limits.connections, FAREWELL).await;
}

/// Takes connections as long as there is room for them.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    for number in 0.. {
        let mut place = shared.room.place(number).await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let name = place.taken();
                let task = tokio::spawn(connection(stream, place, Arc::clone(&shared)));
                shared.room.expect(name, task.abort_handle());
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One connection, within its time; encrypted where that was asked for.
async fn connection(stream: TcpStream, place: Place, shared: Arc<Shared>) {
    let web = Arc::clone(&shared.web.read().unwrap_or_else(PoisonError::into_inner));
    let Limits { head_time, connection_time, .. } = shared.limits;
    let serve = async {
        match &web.tls {
            None => exchange(stream, &place, &shared, &web).await,
            Some(tls) => {
                let accepted = timeout(head_time, TlsAcceptor::from(Arc::clone(tls)).accept(stream)).await;
                if let Ok(Ok(stream)) = accepted {
                    exchange(stream, &place, &shared, &web).await;
                }
            }
        }
    };
    let _ = timeout(connection_time, serve).await;
}

/// Answers one request. A connection does not stay for another one: so its life has a bound, and a scrape every few
/// seconds does not need it.
async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, place: &Place, shared: &Shared, web: &Web) {
    let service = service_fn(|request| async move {
        place.asked();
        Ok::<_, Infallible>(answer(&request, shared, web).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.head_time)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // What goes wrong on a connection is the client's matter.
    let _ = connection.await;
}

/// For the fuzz targets alone: serves one connection, of which `stream` is our end.
#[cfg(fuzzing)]
pub async fn serve_one(stream: impl AsyncRead + AsyncWrite + Unpin, client: Client, web: Web) {
    let limits = Limits::default();
    let web = Arc::new(web);
    let shared = Shared {
        room: Arc::new(Room::new(limits.connections)),
        pages: Pages::new(client, limits.scrapes),
        gzip: Gzip::default(),
        web: Arc::new(RwLock::new(Arc::clone(&web))),
        limits,
    };
    let place = shared.room.place(0).await;
    exchange(stream, &place, &shared, &web).await;
}

/// The form of the metrics that a client is to get.
#[cfg(feature = "native-histograms")]
fn form(headers: &HeaderMap, limits: Limits) -> Form {
    if limits.native && native::is_wanted(headers) { native::FORM } else { CLASSIC }
}

#[cfg(not(feature = "native-histograms"))]
fn form(_: &HeaderMap, _: Limits) -> Form {
    CLASSIC
}

/// Asks for a user and a password.
fn challenge() -> Response<Text> {
    let mut refused = pages::plain(StatusCode::UNAUTHORIZED, "a user and a password are wanted\n");
    refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"loopscope\""));
    refused
}

/// The answer to a request, if its sender may have one, packed as they like it.
async fn answer(request: &Request<Incoming>, shared: &Shared, web: &Web) -> Response<Text> {
    let headers = request.headers();
    if let Some(users) = &web.users {
        match users.admit(headers.get(AUTHORIZATION)).await {
            Admission::Granted => {}
            Admission::Refused => return challenge(),
            Admission::Busy => {
                return pages::plain(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too many passwords at a time; try again\n",
                );
            }
        }
    }
    let mut answer =
        shared.pages.answer(request.method(), request.uri().path(), form(headers, shared.limits)).await;
    if let Some(packed) = answer.body().text().and_then(|text| shared.gzip.compress(headers, text)) {
        *answer.body_mut() = Text::new(packed);
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    answer
}

#[cfg(test)]
mod tests;
