//! The live screen's state: what is shown, and what a key changes. Pure; [`super::draw`] draws it, [`super::screen`] has
//! the terminal.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use palisade_core::flood::gauge::Gauge;
use palisade_core::flood::view::Who;
use palisade_core::net::{Addr, Prefix};

use super::look::{Detail, Look};
use super::rows::{self, Line, Sort, View};

/// What the keyboard is for.
#[derive(Clone, Debug, Default)]
pub(super) enum Mode {
    /// The table.
    #[default]
    Table,
    /// The filter is typed.
    Filter,
    /// The column to sort by is chosen.
    Sorting,
    /// The keys are told.
    Help,
    /// One source is told of.
    Detail(Prefix),
    /// It is asked whether these flows are to be ended, and how many there were.
    Confirm(Prefix, u32),
}

/// What is to be done about a key beyond the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Leave.
    Quit,
    /// Look at one source closely.
    Detail(Prefix),
    /// End its flows.
    Kill(Prefix),
}

/// The state.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) view: View,
    pub(super) sort: Sort,
    pub(super) inverted: bool,
    pub(super) filter: String,
    pub(super) mode: Mode,
    pub(super) paused: bool,
    /// The last look, and the one before it: what grew is the difference.
    pub(super) look: Option<Arc<Look>>,
    before: Option<Arc<Look>>,
    /// What the kernel had counted at the first look.
    pub(super) began: Option<Gauge>,
    /// The rows shown, filtered and sorted.
    pub(super) lines: Vec<Line>,
    /// Which of them is chosen. It is followed by what it is about, not by its place.
    pub(super) chosen: usize,
    key: Option<Who>,
    /// The first row on the screen, as drawn last.
    pub(super) first: usize,
    /// How many rows the screen has, as drawn last.
    pub(super) page: usize,
    /// What was found out about one source.
    pub(super) details: BTreeMap<Prefix, Detail>,
    /// How far the text of help or a detail is scrolled.
    pub(super) scrolled: u16,
    /// What happened last, for the bottom line.
    pub(super) message: Option<String>,
    /// Whose ssh session this is.
    pub(super) peer: Option<Addr>,
}

/// What a filter may be long: no name is longer.
const FILTER_MAX: usize = 128;

impl App {
    /// At the start.
    pub(super) fn new(view: View, sort: Sort, peer: Option<Addr>) -> Self {
        Self { view, sort, peer, page: 1, ..Self::default() }
    }

    /// A look was taken.
    pub(super) fn looked(&mut self, look: Look) {
        if !self.paused {
            self.began.get_or_insert(look.gauge);
            self.before = self.look.replace(Arc::new(look));
            self.relist();
        }
    }

    /// A source was looked at closely.
    pub(super) fn detailed(&mut self, of: Prefix, detail: Detail) {
        // Only the one that is shown is kept.
        self.details.clear();
        self.details.insert(of, detail);
    }

    /// Something is to be told.
    pub(super) fn say(&mut self, text: &str) {
        self.message = Some(palisade_core::attack::excerpt(text.as_bytes()));
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Order> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        self.message = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            // The terminal is raw: what would be a signal comes as a key.
            return matches!(key.code, KeyCode::Char('c' | 'd' | '\\')).then_some(Order::Quit);
        }
        match self.mode.clone() {
            Mode::Table => self.table_key(key.code),
            Mode::Filter => self.filter_key(key.code),
            Mode::Sorting => self.sorting_key(key.code),
            Mode::Help | Mode::Detail(_) => self.text_key(key.code),
            Mode::Confirm(prefix, _) => self.confirm_key(key.code, prefix),
        }
    }

    fn table_key(&mut self, code: KeyCode) -> Option<Order> {
        match code {
            KeyCode::Char('q') | KeyCode::F(10) => return Some(Order::Quit),
            KeyCode::Esc if self.filter.is_empty() => return Some(Order::Quit),
            KeyCode::Esc => self.filter_by(String::new()),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.read(Mode::Help),
            KeyCode::Char('/' | '\\') | KeyCode::F(3 | 4) => self.mode = Mode::Filter,
            KeyCode::F(6) => self.mode = Mode::Sorting,
            KeyCode::Char('<' | ',') => self.sort_by(-1),
            KeyCode::Char('>' | '.') => self.sort_by(1),
            KeyCode::Char('I') => {
                self.inverted = !self.inverted;
                self.relist();
            }
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Tab | KeyCode::F(5) => self.turn(1),
            KeyCode::BackTab => self.turn(View::ALL.len() - 1),
            KeyCode::Char(letter @ ('s' | 'n' | 'd' | 'p' | 'o')) => self.show(named(letter)),
            KeyCode::Enter => return self.open(),
            KeyCode::Char('x' | 'K') | KeyCode::F(9) | KeyCode::Delete => self.ask_to_kill(),
            _ => self.step(code),
        }
        None
    }

    /// Keys that choose a row.
    fn step(&mut self, code: KeyCode) {
        let page = self.page.max(1);
        let to = match code {
            KeyCode::Up | KeyCode::Char('k') => self.chosen.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.chosen.saturating_add(1),
            KeyCode::PageUp => self.chosen.saturating_sub(page),
            KeyCode::PageDown => self.chosen.saturating_add(page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            _ => return,
        };
        self.choose(to);
    }

    fn filter_key(&mut self, code: KeyCode) -> Option<Order> {
        let mut filter = std::mem::take(&mut self.filter);
        match code {
            KeyCode::Enter | KeyCode::F(3 | 4) => self.mode = Mode::Table,
            KeyCode::Esc => {
                self.mode = Mode::Table;
                filter.clear();
            }
            KeyCode::Backspace => drop(filter.pop()),
            KeyCode::Char(c) if !c.is_control() && filter.len() < FILTER_MAX => filter.push(c),
            KeyCode::Up | KeyCode::Down | KeyCode::PageUp | KeyCode::PageDown => self.step(code),
            _ => {}
        }
        self.filter_by(filter);
        None
    }

    fn sorting_key(&mut self, code: KeyCode) -> Option<Order> {
        match code {
            KeyCode::Up | KeyCode::Left | KeyCode::Char('k' | '<' | ',') => self.sort_by(-1),
            KeyCode::Down | KeyCode::Right | KeyCode::Char('j' | '>' | '.') => self.sort_by(1),
            KeyCode::Char('q') | KeyCode::F(10) => return Some(Order::Quit),
            KeyCode::Char('I') => {
                self.inverted = !self.inverted;
                self.relist();
            }
            KeyCode::Enter | KeyCode::Esc | KeyCode::F(6) => self.mode = Mode::Table,
            _ => {}
        }
        None
    }

    /// Help and details: anything that is no scrolling goes back.
    fn text_key(&mut self, code: KeyCode) -> Option<Order> {
        match code {
            KeyCode::F(10) => return Some(Order::Quit),
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scrolled = self.scrolled.saturating_add(1),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(10),
            KeyCode::PageDown => self.scrolled = self.scrolled.saturating_add(10),
            KeyCode::Char('x' | 'K') | KeyCode::F(9) if matches!(self.mode, Mode::Detail(_)) => self.ask_to_kill(),
            _ => self.mode = Mode::Table,
        }
        None
    }

    fn confirm_key(&mut self, code: KeyCode, prefix: Prefix) -> Option<Order> {
        self.mode = Mode::Table;
        if let KeyCode::Char('y' | 'Y') = code {
            self.say(&format!("ending the flows of {prefix} ..."));
            return Some(Order::Kill(prefix));
        }
        self.say("nothing was ended");
        None
    }

    fn open(&mut self) -> Option<Order> {
        let Some(prefix) = self.source() else {
            self.say("only a source has details: press s or n");
            return None;
        };
        self.details.clear();
        self.read(Mode::Detail(prefix));
        Some(Order::Detail(prefix))
    }

    fn ask_to_kill(&mut self) {
        let flows = self.lines.get(self.chosen).map_or(0, |line| line.flows);
        match self.source() {
            Some(prefix) if self.peer.is_some_and(|peer| prefix.contains(peer)) => {
                self.say(&format!(
                    "your own ssh session comes from {prefix}: this would end it. `palisade conntrack kill` does, if you must"
                ));
            }
            Some(prefix) => self.mode = Mode::Confirm(prefix, flows),
            None => self.say("only the flows of a source can be ended: press s or n"),
        }
    }

    /// The chosen row's source, where it is one.
    fn source(&self) -> Option<Prefix> {
        match self.lines.get(self.chosen)?.key {
            Who::Source(prefix) => Some(prefix),
            _ => None,
        }
    }

    fn read(&mut self, mode: Mode) {
        self.scrolled = 0;
        self.mode = mode;
    }

    fn turn(&mut self, by: usize) {
        let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
        self.show(View::ALL[(at + by) % View::ALL.len()]);
    }

    fn show(&mut self, view: View) {
        if view != self.view {
            self.view = view;
            (self.chosen, self.first, self.key) = (0, 0, None);
            self.relist();
        }
    }

    fn sort_by(&mut self, by: isize) {
        let columns = Sort::ALL;
        let at = columns.iter().position(|sort| *sort == self.sort).unwrap_or(0);
        let to = at.saturating_add_signed(by).min(columns.len() - 1);
        self.sort = columns[to];
        self.relist();
    }

    fn filter_by(&mut self, filter: String) {
        self.filter = filter;
        self.relist();
    }

    fn choose(&mut self, at: usize) {
        self.chosen = at.min(self.lines.len().saturating_sub(1));
        // The first row is a place, not somebody: who is largest stays chosen, whoever that becomes.
        self.key = if self.chosen == 0 { None } else { self.lines.get(self.chosen).map(|line| line.key.clone()) };
    }

    /// Makes the rows anew. The chosen one stays chosen wherever it goes.
    fn relist(&mut self) {
        let Some(look) = &self.look else { return };
        let mut lines = rows::lines(look, self.before.as_deref(), self.view, self.sort, self.inverted);
        if !self.filter.is_empty() {
            lines.retain(|line| line.has(&self.filter));
        }
        self.lines = lines;
        let at = self.key.as_ref().and_then(|key| self.lines.iter().position(|line| line.key == *key));
        self.choose(at.unwrap_or(self.chosen));
    }
}

/// The view a letter is for.
const fn named(letter: char) -> View {
    match letter {
        'n' => View::Net,
        'd' => View::Destination,
        'p' => View::Port,
        'o' => View::Process,
        _ => View::Source,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::{look, row};
    use super::*;

    const TO: &str = "203.0.113.1:443/tcp";

    fn press(app: &mut App, codes: &[KeyCode]) -> Option<Order> {
        codes.iter().map(|code| app.key(KeyEvent::new(*code, KeyModifiers::NONE))).last().flatten()
    }

    fn typed(app: &mut App, text: &str) -> Option<Order> {
        press(app, &text.chars().map(KeyCode::Char).collect::<Vec<_>>())
    }

    fn app() -> App {
        let mut app = App::new(View::Source, Sort::Flows, Some("192.0.2.3".parse().unwrap()));
        app.looked(look(0, rows()));
        app
    }

    fn rows() -> Vec<palisade_core::flood::census::Row> {
        vec![
            row("192.0.2.1/32", 100, 5, 1.0, TO),
            row("192.0.2.2/32", 50, 40, 9.0, TO),
            row("192.0.2.3/32", 20, 1, 3.0, "203.0.113.2:53/udp"),
        ]
    }

    fn names(app: &App) -> String {
        app.lines.iter().map(|line| line.name.trim_start_matches("192.0.2.")).collect::<Vec<_>>().join(" ")
    }

    fn chosen(app: &App) -> &str {
        &app.lines[app.chosen].name
    }

    #[test]
    fn columns_are_sorted_by_from_the_first_to_the_last() {
        let mut app = app();
        assert_eq!(names(&app), "1 2 3");
        typed(&mut app, "<");
        assert_eq!((app.sort, names(&app).as_str()), (Sort::Flows, "1 2 3"));
        typed(&mut app, ">");
        assert_eq!((app.sort, names(&app).as_str()), (Sort::New, "2 3 1"));
        typed(&mut app, "I");
        assert_eq!(names(&app), "1 3 2");
        typed(&mut app, ">>>>>>");
        assert_eq!((app.sort, names(&app).as_str()), (Sort::Name, "3 2 1"));
        press(&mut app, &[KeyCode::F(6), KeyCode::Up, KeyCode::Char('I'), KeyCode::Enter]);
        assert_eq!((app.sort, names(&app).as_str()), (Sort::Unreplied, "2 1 3"));
        assert!(matches!(app.mode, Mode::Table));
    }

    #[test]
    fn the_chosen_row_is_followed_and_the_first_place_is_kept() {
        let mut app = app();
        assert_eq!(chosen(&app), "192.0.2.1");
        typed(&mut app, ">");
        assert_eq!(chosen(&app), "192.0.2.2", "the first place is a place");
        typed(&mut app, "j");
        assert_eq!(chosen(&app), "192.0.2.3");
        typed(&mut app, "<");
        assert_eq!((chosen(&app), app.chosen), ("192.0.2.3", 2));
        press(&mut app, &[KeyCode::Down, KeyCode::PageDown]);
        assert_eq!(app.chosen, 2);
        app.looked(look(1, rows()[..1].to_vec()));
        assert_eq!(chosen(&app), "192.0.2.1");
        app.looked(look(2, Vec::new()));
        press(&mut app, &[KeyCode::Down, KeyCode::End, KeyCode::Enter, KeyCode::F(9)]);
        assert_eq!(app.chosen, 0);
    }

    #[test]
    fn a_filter_is_typed_kept_and_taken_back() {
        let mut app = app();
        assert_eq!(typed(&mut app, "/qUDP"), None);
        press(&mut app, &[KeyCode::Home]);
        assert_eq!(names(&app), "");
        press(&mut app, &[KeyCode::Backspace, KeyCode::Backspace, KeyCode::Backspace, KeyCode::Backspace]);
        typed(&mut app, "udp");
        press(&mut app, &[KeyCode::Enter]);
        assert_eq!((names(&app).as_str(), app.filter.as_str()), ("3", "udp"));
        assert_eq!(press(&mut app, &[KeyCode::Esc]), None);
        assert_eq!(names(&app), "1 2 3");
        assert_eq!(press(&mut app, &[KeyCode::Esc]), Some(Order::Quit));
    }

    #[test]
    fn views_turn_and_begin_at_their_top() {
        let mut app = app();
        typed(&mut app, "jj");
        press(&mut app, &[KeyCode::Tab, KeyCode::Tab]);
        assert_eq!((app.view, app.chosen, app.lines.len()), (View::Destination, 0, 2));
        press(&mut app, &[KeyCode::BackTab]);
        assert_eq!(app.view, View::Net);
        for (letter, view) in [("d", View::Destination), ("p", View::Port), ("o", View::Process), ("s", View::Source)] {
            typed(&mut app, letter);
            assert_eq!(app.view, view);
        }
    }

    #[test]
    fn flows_are_ended_only_when_asked_and_never_those_of_the_own_session() {
        let mut app = app();
        press(&mut app, &[KeyCode::F(9)]);
        assert!(matches!(app.mode, Mode::Confirm(prefix, 100) if prefix.to_string() == "192.0.2.1/32"), "{:?}", app.mode);
        assert_eq!(typed(&mut app, "n"), None);
        assert_eq!(app.message.as_deref(), Some("nothing was ended"));
        assert_eq!(typed(&mut app, "jxy"), Some(Order::Kill("192.0.2.2/32".parse().unwrap())));
        assert_eq!(typed(&mut app, "jxy"), None);
        assert_eq!(typed(&mut app, "x"), None);
        assert!(app.message.as_ref().unwrap().contains("your own ssh session"), "{:?}", app.message);
        assert_eq!(typed(&mut app, "dx"), None);
        assert!(matches!(app.mode, Mode::Table));
    }

    #[test]
    fn details_are_asked_for_and_only_of_sources() {
        let mut app = app();
        assert_eq!(press(&mut app, &[KeyCode::Enter]), Some(Order::Detail("192.0.2.1/32".parse().unwrap())));
        assert!(matches!(app.mode, Mode::Detail(_)));
        assert_eq!(press(&mut app, &[KeyCode::Esc]), None);
        typed(&mut app, "p");
        assert_eq!(press(&mut app, &[KeyCode::Enter]), None);
        assert!(matches!(app.mode, Mode::Table));
    }

    #[test]
    fn a_pause_keeps_what_is_seen() {
        let mut app = app();
        typed(&mut app, " ");
        app.looked(look(1, Vec::new()));
        assert_eq!(names(&app), "1 2 3");
        typed(&mut app, " ");
        app.looked(look(2, Vec::new()));
        assert_eq!(names(&app), "");
    }

    #[test]
    fn it_is_left_by_many_doors() {
        for code in [KeyCode::Char('q'), KeyCode::F(10), KeyCode::Esc] {
            assert_eq!(press(&mut app(), &[code]), Some(Order::Quit));
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let mut app = app();
        typed(&mut app, "/");
        assert_eq!(app.key(interrupt), Some(Order::Quit));
        typed(&mut app, "x?");
        press(&mut app, &[KeyCode::Enter, KeyCode::F(1)]);
        assert!(matches!(app.mode, Mode::Help));
        assert_eq!(press(&mut app, &[KeyCode::F(10)]), Some(Order::Quit));
    }
}
