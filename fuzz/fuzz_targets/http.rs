//! The HTTP server: what any client may send, on a connection in memory.
//!
//! Bit 0 of the first byte: the agent is ready. Bit 1: a password is wanted. The rest is what the client sends.
#![no_main]

use std::{cell::OnceCell, sync::Arc};

use libfuzzer_sys::fuzz_target;
use loopscope::export::{
    exchange,
    server::{Users, serve_one},
    web::{self, Web},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::{Builder, Runtime},
};

/// bcrypt's least cost: 1 ms; the password is in no seed, and cannot be found.
const USERS: &str = "basic_auth_users: {a: $2y$04$CkXkvPTc6Uj6fvzYOJY/fODrSsNTv4HMBqDbbNG3XUQrTDDiLxlNK}";

thread_local! {
    static RUNTIME: OnceCell<(Runtime, Arc<Users>)> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    let Some((which, request)) = data.split_first() else { return };
    RUNTIME.with(|cell| {
        let (runtime, users) = cell.get_or_init(|| {
            let runtime =
                Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
            (runtime, Arc::new(web::fuzz(USERS).unwrap().unwrap()))
        });
        let users = (which & 2 != 0).then(|| Arc::clone(users));
        let is_locked = users.is_some();
        let answer = runtime.block_on(talk(request, which & 1 != 0, Web { tls: None, users }));
        let head = String::from_utf8_lossy(answer.get(..12).unwrap_or(&answer)).into_owned();
        assert!(answer.is_empty() || head.starts_with("HTTP/1."), "{head}");
        assert!(!(is_locked && head.ends_with("200")), "served without a password");
    });
});

/// Sends a request, and gives what comes back until the server closes.
async fn talk(request: &[u8], is_ready: bool, web: Web) -> Vec<u8> {
    let (client, questions) = exchange(|| {});
    questions.set_ready(is_ready);
    let (mut near, far) = duplex(1 << 16);
    let ask = async {
        // The server may close before it has read everything.
        let _ = near.write_all(request).await;
        let _ = near.shutdown().await;
        let mut answer = Vec::new();
        let _ = near.read_to_end(&mut answer).await;
        answer
    };
    let reactor = async {
        loop {
            for question in questions.questions().unwrap_or_default() {
                let _ = question.send(Ok("loopscope_loops 1\n".into()));
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        (answer, ()) = async { tokio::join!(ask, serve_one(far, client, web)) } => answer,
        () = reactor => Vec::new(),
    }
}
