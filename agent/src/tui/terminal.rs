//! The terminal: taken over, drawn on, and always given back: at the end, on an error, on a panic, before a stop.
//!
//! The only file of top that writes to it. What the state is does not matter here.

use std::{
    io::{self, BufWriter, IsTerminal, Stdout, Write, stdin, stdout},
    os::fd::{AsFd, BorrowedFd},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use crossterm::{
    cursor::{Hide, Show},
    execute, queue,
    style::Print,
    terminal::{
        BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
        disable_raw_mode, enable_raw_mode,
    },
};
use ratatui::{Frame, backend::CrosstermBackend};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The most bytes of input that are read at once: a paste is read in pieces.
const INPUT_BYTES: usize = 1024;

/// Whether the terminal is ours now, for whoever has to give it back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A terminal that is taken over as long as this lives.
pub struct Terminal {
    drawing: ratatui::Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Terminal {
    /// Takes the terminal over: alternate screen, raw mode, no cursor.
    ///
    /// # Errors
    /// Standard input or output is no terminal, or it refuses.
    pub fn take() -> Result<Terminal> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            bail!("top needs a terminal for its keys and its screen; -b prints frames without one");
        }
        give_back_on_panic();
        enter().context("cannot take over the terminal")?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(64 * 1024, stdout()));
        let drawing = ratatui::Terminal::new(backend).inspect_err(|_| give_back());
        Ok(Terminal { drawing: drawing.context("cannot read the terminal's size")? })
    }

    /// Draws, as one update that the terminal shows at once (DECSET 2026; terminals without it ignore it): only the
    /// cells that changed are written.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> io::Result<()> {
        queue!(self.drawing.backend_mut(), BeginSynchronizedUpdate)?;
        self.drawing.draw(draw)?;
        execute!(self.drawing.backend_mut(), EndSynchronizedUpdate)
    }

    /// Columns and rows.
    ///
    /// # Errors
    /// The terminal has gone.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.drawing.size()?;
        Ok((size.width, size.height))
    }

    /// Makes the next draw write every cell.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub fn clear(&mut self) -> io::Result<()> {
        self.drawing.clear()
    }

    /// Where keys come from.
    pub fn input(&self) -> BorrowedFd<'_> {
        // Standard input outlives every borrow.
        rustix::stdio::stdin()
    }

    /// What was typed. None: nobody can type any more, the terminal has gone.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let input = self.input();
        let mut ready = [PollFd::new(&input, PollFlags::IN)];
        if poll(&mut ready, Some(&Timespec::default()))? == 0 {
            return Ok(Some(Vec::new()));
        }
        let mut bytes = vec![0; INPUT_BYTES];
        let count = rustix::io::read(self.input().as_fd(), &mut bytes)?;
        bytes.truncate(count);
        Ok((count > 0).then_some(bytes))
    }

    /// Gives the terminal back, stops this process as Ctrl-Z would have, and takes the terminal over again when it is
    /// continued.
    ///
    /// # Errors
    /// The terminal cannot be taken over again.
    pub fn stop(&mut self) -> Result<()> {
        give_back();
        // Not TSTP: that one is blocked, to come as an event.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)
            .context("cannot stop this process")?;
        enter().context("cannot take over the terminal")?;
        self.clear().context("cannot draw")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// The mouse's buttons and wheel (1000), with places beyond column 223 (1006); its moves are not asked for. What they say
/// is in `input`.
const MOUSE: [&str; 2] = ["\x1b[?1000h\x1b[?1006h", "\x1b[?1006l\x1b[?1000l"];

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    execute!(stdout(), EnterAlternateScreen, Hide, Print(MOUSE[0])).inspect_err(|_| give_back())
}

/// Gives the terminal back, once. An error has nobody who could be told.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(stdout(), EndSynchronizedUpdate, Print(MOUSE[1]), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
        let _ = stdout().flush();
    }
}

/// A panic's message must not be drawn over.
fn give_back_on_panic() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
    });
}
