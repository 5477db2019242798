//! Basic authentication: who may ask. Keeps no password.
//!
//! A check of a password takes tens of milliseconds of CPU, by design of bcrypt. So it is made in a thread beside the
//! server's, one at a time, and credentials that were right are known again by a keyed hash of them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::header::HeaderValue;
use ring::{hmac, rand::SystemRandom};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Credentials that are known again; beyond it all are forgotten and checked anew.
const KNOWN: usize = 100;

/// Checks that may wait for their turn. Some 60 ms each, so that a scraper whose credentials are new waits for a second
/// at most, however many try to guess.
const WAITING: usize = 16;

/// Whether a request may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It comes from a user.
    Granted,
    /// It does not.
    Refused,
    /// Too many are being looked at.
    Busy,
}

/// The users of `--web.config.file`.
pub struct Users {
    hashes: BTreeMap<String, String>,
    /// Of this process alone.
    key: hmac::Key,
    known: Mutex<HashSet<Vec<u8>>>,
    /// One at a time, and those that wait for it.
    checks: Semaphore,
    waiting: Semaphore,
}

impl Users {
    /// `hashes`: each user's password as bcrypt has it.
    ///
    /// # Errors
    /// One of them is no bcrypt hash; or there is no source of random numbers.
    pub fn new(hashes: BTreeMap<String, String>) -> Result<Users, String> {
        let is_bad = |hash: &String| hash.parse::<bcrypt::HashParts>().is_err();
        if let Some((user, _)) = hashes.iter().find(|(_, hash)| is_bad(hash)) {
            return Err(format!(
                "basic_auth_users: the password of {user} is no bcrypt hash; htpasswd -nB makes one"
            ));
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| "no random numbers can be had".to_owned())?;
        Ok(Users {
            hashes,
            key,
            known: Mutex::default(),
            checks: Semaphore::new(1),
            waiting: Semaphore::new(WAITING),
        })
    }

    /// Whether a request with this header may be answered.
    pub async fn admit(self: &Arc<Self>, authorization: Option<&HeaderValue>) -> Admission {
        let Some((user, password)) = authorization.and_then(credentials) else { return Admission::Refused };
        let tag = self.tag(&user, &password);
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&tag) {
            return Admission::Granted;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Admission::Busy };
        // The semaphore is never closed.
        let Ok(_turn) = self.checks.acquire().await else { return Admission::Busy };
        let users = Arc::clone(self);
        if !spawn_blocking(move || users.check(&user, &password)).await.unwrap_or(false) {
            return Admission::Refused;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(tag);
        Admission::Granted
    }

    /// A user that there is not takes as long as a wrong password, so that names cannot be found out.
    fn check(&self, user: &str, password: &[u8]) -> bool {
        let own = self.hashes.get(user);
        let hash = own.or_else(|| self.hashes.values().next());
        let matches = hash.is_some_and(|hash| bcrypt::verify(password, hash).unwrap_or(false));
        matches && own.is_some()
    }

    fn tag(&self, user: &str, password: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(user.len() as u64).to_ne_bytes());
        context.update(user.as_bytes());
        context.update(password);
        context.sign().as_ref().to_vec()
    }
}

/// User and password of an Authorization header (RFC 7617).
fn credentials(header: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (user, password) = decoded.split_at_checked(colon)?;
    Some((String::from_utf8(user.to_vec()).ok()?, password.get(1..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Arc<Users> {
        let hash = bcrypt::hash("open sesame", 4).unwrap();
        Arc::new(Users::new([("ali".to_owned(), hash)].into()).unwrap())
    }

    fn basic(credentials: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(credentials))).unwrap()
    }

    fn admits(users: &Arc<Users>, header: Option<HeaderValue>) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(users.admit(header.as_ref())) == Admission::Granted
    }

    #[test]
    fn guesses_that_come_together_do_not_queue_without_an_end() {
        let users = users();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(async {
            let guess = |i| {
                let users = Arc::clone(&users);
                tokio::spawn(async move { users.admit(Some(&basic(&format!("ali:{i}")))).await })
            };
            let guesses: Vec<_> = (0..200).map(guess).collect();
            let mut found = Vec::new();
            for guess in guesses {
                found.push(guess.await.unwrap());
            }
            found
        });
        let count = |wanted| found.iter().filter(|admission| **admission == wanted).count();
        assert_eq!((count(Admission::Granted), count(Admission::Refused) + count(Admission::Busy)), (0, 200));
        assert!(count(Admission::Busy) >= 200 - 4 * WAITING, "{} were busy", count(Admission::Busy));
        assert!(admits(&users, Some(basic("ali:open sesame"))));
    }

    #[test]
    fn the_right_password_of_the_right_user_and_nothing_else() {
        let users = users();
        for _ in 0..2 {
            assert!(admits(&users, Some(basic("ali:open sesame"))));
            assert!(!admits(&users, None));
            for wrong in [
                "ali:open sesam",
                "ali:",
                "ali",
                "",
                ":",
                "baba:open sesame",
                "ali:open sesame ",
                "\u{0}:\u{0}",
            ] {
                assert!(!admits(&users, Some(basic(wrong))), "{wrong:?}");
            }
            for header in ["Basic", "Basic !!!", "Bearer YWxpOm9wZW4gc2VzYW1l", "Basic /w==", ""] {
                assert!(!admits(&users, Some(HeaderValue::from_str(header).unwrap())), "{header:?}");
            }
        }
        assert_eq!(users.known.lock().unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_hash_is_refused_without_being_shown() {
        let why = Users::new([("ali".to_owned(), "open sesame".to_owned())].into()).err().unwrap();
        assert!(why.contains("ali") && !why.contains("sesame"), "{why}");
    }
}
