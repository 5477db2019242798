//! What systemd is told (sd_notify(3)), where NOTIFY_SOCKET is set; elsewhere nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// It watches and answers.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It reads its configuration anew; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Its loop turns.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] has to be said: twice in the time that systemd gives.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|most| most / 2).filter(|every| !every.is_zero())
}

/// Where systemd does not listen, the agent works on all the same.
fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
