//! Which host a document is about. Asks uname(2) alone.

/// The host, as a document names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine.
    pub arch: String,
}

impl Host {
    /// The host that this runs on.
    pub fn this() -> Host {
        let uname = rustix::system::uname();
        let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
        Host { name: text(uname.nodename()), kernel: text(uname.release()), arch: text(uname.machine()) }
    }
}
