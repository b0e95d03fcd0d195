//! The terminal of the live screen: taken, drawn on, and given back whatever happens.

use std::io::{self, Stdout, stdin, stdout};
use std::os::fd::AsFd;
use std::panic;
use std::thread;

use anyhow::{Context, Result};
use crossterm::cursor::{Hide, Show};
use crossterm::event::{self, Event};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size};
use palisade_core::net::Prefix;
use palisade_core::time::{Span, Tick};
use palisade_os::clock;
use palisade_os::wake::{Mailbox, Signals, poll};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::app::{App, Order};
use super::draw::draw;
use super::feed::LISTEN;
use super::look::{Detail, Feed, Look};

/// How soon a changed size of the terminal is seen at the latest: the signal of it does not wake us.
const GLANCE: Span = Span::millis(250);

/// So often the terminal may say that there is something to read without a key coming of it; then it is gone.
const EMPTY: u32 = 100;

/// What the screen asks of the looking thread.
#[derive(Default)]
struct Asked {
    detail: Option<Prefix>,
    kill: Vec<Prefix>,
    paused: Option<bool>,
    stop: bool,
}

/// What it is told. Only the newest look counts.
#[derive(Default)]
struct News {
    look: Option<Look>,
    detail: Option<(Prefix, Detail)>,
    said: Vec<String>,
    over: Option<String>,
}

/// Ends a source's flows and says how many.
pub(super) type Kill = Box<dyn Fn(Prefix) -> String + Send>;

/// Shows the screen until it is left. `feed` looks every `interval`, or seldomer where looks take long.
pub(super) fn run(mut app: App, feed: Box<dyn Feed>, kill: Kill, interval: Span, color: bool) -> Result<()> {
    // Before the thread: it must not be ended by them.
    let signals = Signals::take_over().context("taking over signals")?;
    let (asked, news) = (Mailbox::<Asked>::new()?, Mailbox::<News>::new()?);
    let (inbox, outbox) = (asked.clone(), news.clone());
    let looking = thread::Builder::new().name("feed".to_owned()).spawn(move || {
        let over = Over(outbox);
        if let Err(error) = looks(feed, &kill, interval, &inbox, &over.0) {
            over.0.put(|news| news.over = Some(error.to_string()));
        }
    })?;
    let mut screen = Screen::enter().context("taking the terminal")?;
    let left = show(&mut screen, &mut app, &signals, &asked, &news, color);
    drop(screen);
    asked.put(|asked| asked.stop = true);
    // A look under way ends by itself; a panic in it has been told already.
    let panicked = looking.join().is_err();
    left?;
    anyhow::ensure!(!panicked, "looking at the table broke off; this is a bug");
    Ok(())
}

/// Says that the looking thread is over, however it ended.
struct Over(Mailbox<News>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.put(|news| {
            news.over.get_or_insert_with(|| "this is a bug".to_owned());
        });
    }
}

/// The looking thread.
fn looks(mut feed: Box<dyn Feed>, kill: &Kill, interval: Span, inbox: &Mailbox<Asked>, out: &Mailbox<News>) -> io::Result<()> {
    let (mut due, mut paused) = (clock::now().tick, false);
    loop {
        let now = clock::now().tick;
        if now >= due && !paused {
            let look = feed.look()?;
            due = next(now, look.took, interval);
            out.put(|news| news.look = Some(look));
        }
        let wait = due.since(clock::now().tick).min(LISTEN);
        let _ = poll(&[], Some(inbox.waker()), Some(if paused { LISTEN } else { wait }))?;
        let asked = inbox.take();
        if asked.stop {
            return Ok(());
        }
        paused = asked.paused.unwrap_or(paused);
        feed.listen()?;
        for prefix in asked.kill {
            let said = kill(prefix);
            out.put(|news| news.said.push(said));
            due = clock::now().tick;
        }
        if let Some(prefix) = asked.detail {
            match feed.detail(prefix) {
                Ok(detail) => out.put(|news| news.detail = Some((prefix, detail))),
                Err(error) => out.put(|news| news.said.push(format!("{prefix}: {error}"))),
            }
        }
    }
}

/// When to look again: after the interval, and not before the machine has rested as long as a look took.
fn next(began: Tick, took: Span, interval: Span) -> Tick {
    began.plus(interval).max(began.plus(took).plus(took))
}

fn show(screen: &mut Screen, app: &mut App, signals: &Signals, asked: &Mailbox<Asked>, news: &Mailbox<News>, color: bool) -> Result<()> {
    let keyboard = stdin();
    let mut empty = 0;
    screen.0.draw(|frame| draw(frame, app, color))?;
    loop {
        let ready = poll(&[keyboard.as_fd(), signals.as_fd()], Some(news.waker()), Some(GLANCE))?;
        if signals.next()?.is_some() {
            return Ok(());
        }
        let mut changed = hear(app, news)?;
        let mut keys = 0;
        while event::poll(std::time::Duration::ZERO)? {
            keys += 1;
            changed = true;
            if let Event::Key(key) = event::read()?
                && press(app, asked, key)
            {
                return Ok(());
            }
        }
        empty = if ready.at(0) && keys == 0 { empty + 1 } else { 0 };
        anyhow::ensure!(empty < EMPTY, "the terminal is gone");
        if changed {
            screen.0.draw(|frame| draw(frame, app, color))?;
        }
    }
}

/// Takes in what the looking thread tells; whether there was anything.
fn hear(app: &mut App, news: &Mailbox<News>) -> Result<bool> {
    let News { look, detail, said, over } = news.take();
    if let Some(why) = over {
        anyhow::bail!("the table cannot be looked at any more: {why}");
    }
    let heard = look.is_some() || detail.is_some() || !said.is_empty();
    if let Some(look) = look {
        app.looked(look);
    }
    if let Some((of, detail)) = detail {
        app.detailed(of, detail);
    }
    said.iter().for_each(|text| app.say(text));
    Ok(heard)
}

/// Passes a key on; whether the screen is to be left.
fn press(app: &mut App, asked: &Mailbox<Asked>, key: event::KeyEvent) -> bool {
    let paused = app.paused;
    let order = app.key(key);
    if app.paused != paused {
        asked.put(|asked| asked.paused = Some(app.paused));
    }
    match order {
        Some(Order::Quit) => return true,
        Some(Order::Detail(prefix)) => asked.put(|asked| asked.detail = Some(prefix)),
        Some(Order::Kill(prefix)) => asked.put(|asked| asked.kill.push(prefix)),
        None => {}
    }
    false
}

/// The terminal while it is ours.
struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes it. Whatever panics from now on, in any thread, gives it back before it is told.
    fn enter() -> io::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
        // A serial line may not know its size.
        let viewport = match size()? {
            (0, _) | (_, 0) => Viewport::Fixed(Rect::new(0, 0, 80, 24)),
            _ => Viewport::Fullscreen,
        };
        enable_raw_mode()?;
        let open = || Terminal::with_options(CrosstermBackend::new(stdout()), TerminalOptions { viewport });
        let taken = execute!(stdout(), EnterAlternateScreen, Hide).and_then(|()| open());
        taken.map(Self).inspect_err(|_| give_back())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives it back. A terminal that is gone needs nothing.
fn give_back() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_look_is_followed_by_a_rest() {
        let next = |took| next(Tick(1000), Span::millis(took), Span::secs(1));
        assert_eq!((next(10), next(500), next(900)), (Tick(2000), Tick(2000), Tick(2800)));
    }
}
