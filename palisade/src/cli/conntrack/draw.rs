//! Draws the live screen. Every name in it has been made printable before; what ratatui's buffer still finds of control
//! characters it leaves out.

use std::fmt::Write as _;

use palisade_core::attack::excerpt;
use palisade_core::flood::census::Census;
use palisade_core::flood::flow::{Protocol, TcpState};
use palisade_core::flood::gauge::Gauge;
use palisade_core::net::Prefix;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::app::{App, Mode};
use super::look::{Detail, Look};
use super::plot::whom;
use super::rows::{Line, Sort, View, rate};

/// The keys, as help tells them.
const HELP: &str = "\
  Up Down j k        choose a row          PgUp PgDn Home End   in larger steps
  Enter              all about the chosen source
  Tab F5             the next view         s source  n net  d destination  p port  o process
  < > F6             sort by another column                     I  the other way round
  / F4               show only rows with this text              Esc  all of them again
  x F9               end the flows of the chosen source, after a question
  Space              pause                 h ? F1  this help    q Esc F10  quit

  FLOWS     flows it opened that are still tracked      SHARE     of all flows
  NEW/s     flows it opens a second                     GROWTH/s  what FLOWS changed by
  UNREPL    of FLOWS, never answered: scans and floods have many

  The kernel drops new flows when the table is full, and flows that are not assured
  before that. `palisade conntrack status` tells what the daemon does about it.";

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, color: bool) {
    let notes = app.look.as_ref().map_or(0, |look| u16::from(!look.notes.is_empty()));
    let parts = Layout::vertical([Constraint::Length(4 + notes), Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]);
    let [head, tabs, body, foot] = parts.areas(frame.area());
    header(frame, app, head, color);
    frame.render_widget(Paragraph::new(tab_line(app)), tabs);
    match app.mode {
        Mode::Help => text(frame, app, body, HELP.to_owned()),
        Mode::Detail(prefix) => {
            let told = detail(prefix, app.details.get(&prefix));
            text(frame, app, body, told);
        }
        _ => table(frame, app, body, color),
    }
    frame.render_widget(Paragraph::new(footer(app)), foot);
}

fn header(frame: &mut Frame<'_>, app: &App, area: Rect, color: bool) {
    let Some(look) = &app.look else {
        frame.render_widget(Paragraph::new("palisade conntrack top\nlooking at the table ..."), area);
        return;
    };
    let clock = look.at.stamp.to_string();
    let clock = format!("{}{} UTC", if app.paused { "PAUSED  " } else { "" }, clock.get(11..19).unwrap_or_default());
    let mut lines = vec![Text::from(Span::styled("palisade conntrack top", Style::new().add_modifier(Modifier::BOLD)))];
    lines.push(bar(&look.gauge, usize::from(area.width), color));
    lines.push(Text::from(sums(look, app.began.as_ref())));
    lines.push(Text::from(mix(&look.census)));
    lines.extend((!look.notes.is_empty()).then(|| Text::from(paint(excerpt(look.notes.join("; ").as_bytes()), Color::Yellow, color))));
    frame.render_widget(Paragraph::new(lines), area);
    let width = u16::try_from(clock.len()).unwrap_or(u16::MAX).min(area.width);
    let corner = Rect { x: area.right() - width, width, height: area.height.min(1), ..area };
    frame.render_widget(Paragraph::new(clock), corner);
}

fn paint(text: String, color: Color, on: bool) -> Span<'static> {
    let style = if on { Style::new().fg(color) } else { Style::new() };
    Span::styled(text, style)
}

/// `Table [||||||||            131072/262144 50.0%]`.
fn bar(gauge: &Gauge, width: usize, color: bool) -> Text<'static> {
    let fill = gauge.fill();
    let told = match gauge.max {
        0 => format!("{} (no bound)", gauge.count),
        max => format!("{}/{max} {:.1}%", gauge.count, fill * 100.0),
    };
    let room = width.saturating_sub("Table []".len() + told.len() + 1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and the width of a terminal"
    )]
    let full = (fill.clamp(0.0, 1.0) * room as f64).round() as usize;
    let shade = if fill >= 0.85 {
        Color::Red
    } else if fill >= 0.70 {
        Color::Yellow
    } else {
        Color::Green
    };
    Text::from(vec![Span::raw("Table ["), paint("|".repeat(full), shade, color), Span::raw(format!("{} {told}]", " ".repeat(room - full)))])
}

/// `New 12/s  Sources 3 (half hold up to 2, nine in ten up to 20)  Dropped 0  Early 0  Failed 0`.
fn sums(look: &Look, began: Option<&Gauge>) -> String {
    let census = &look.census;
    let (median, most) = census.typical;
    let least = if census.error > 0 { "at least " } else { "" };
    let mut line = format!("New {}/s  ", look.new.map_or_else(|| "?".to_owned(), |new| rate(new.into())));
    let since = |now: u64, then: fn(&Gauge) -> u64| began.map_or(0, |began| now.saturating_sub(then(began)));
    let gauge = &look.gauge;
    // A line to a string cannot fail.
    let _ = write!(
        line,
        "Dropped +{}  Early +{}  Failed +{}  Sources {least}{} (half hold up to {median}, nine in ten up to {most})",
        since(gauge.drop, |g| g.drop),
        since(gauge.early_drop, |g| g.early_drop),
        since(gauge.insert_failed, |g| g.insert_failed),
        census.sources,
    );
    line
}

/// `tcp 50% udp 25%  ESTABLISHED 500 SYN_SENT 250  unreplied 10% nat 3/1`.
fn mix(census: &Census) -> String {
    let percent = |count: u32| u64::from(count) * 100 / census.flows.max(1);
    let mut protocols = census.protocols.clone();
    protocols.sort_by_key(|(number, count)| (u32::MAX - count, *number));
    let protocols: Vec<String> =
        protocols.iter().take(4).map(|(number, count)| format!("{} {}%", Protocol(*number), percent(*count))).collect();
    let mut parts = vec![
        protocols.join(" "),
        states(census),
        format!("unreplied {}% unassured {}%", percent(census.unreplied), percent(census.unassured)),
    ];
    if census.nat != (0, 0) {
        parts.push(format!("nat {}/{}", census.nat.0, census.nat.1));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("  ")
}

/// TCP's states, most first.
fn states(census: &Census) -> String {
    let mut states: Vec<(TcpState, u32)> = TcpState::ALL.into_iter().zip(census.tcp).filter(|(_, count)| *count > 0).collect();
    states.sort_by_key(|(state, count)| (u32::MAX - count, *state));
    states.iter().take(5).map(|(state, count)| format!("{} {count}", state.word())).collect::<Vec<_>>().join(" ")
}

fn tab_line(app: &App) -> Text<'static> {
    let mut spans = Vec::new();
    for view in View::ALL {
        let style = if view == app.view { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        spans.push(Span::styled(format!(" {} ", view.word()), style));
    }
    if !app.filter.is_empty() {
        spans.push(Span::styled(format!("  only `{}`", excerpt(app.filter.as_bytes())), Style::new().add_modifier(Modifier::BOLD)));
    }
    Text::from(spans)
}

/// What stands in a column of a row.
pub(super) type Content = fn(&Line) -> String;

/// One column: its heading, how wide, what it is sorted by, and what is in it.
struct Column(&'static str, Constraint, Option<Sort>, Content);

fn columns(view: View) -> Vec<Column> {
    let number = Constraint::Length(8);
    let flows = Column("FLOWS", number, Some(Sort::Flows), |line| format!("{:>8}", line.flows));
    let share = Column("SHARE", Constraint::Length(6), None, |line| format!("{:>5.1}%", line.share * 100.0));
    let new = Column("NEW/s", number, Some(Sort::New), |line| format!("{:>8}", line.new.map_or_else(|| "-".to_owned(), rate)));
    let growth =
        Column("GROWTH/s", number, Some(Sort::Growth), |line| format!("{:>8}", line.growth.map_or_else(|| "-".to_owned(), signed)));
    let unreplied = Column("UNREPL", number, Some(Sort::Unreplied), |line| {
        format!("{:>8}", line.unreplied.map_or_else(|| "-".to_owned(), |count| count.to_string()))
    });
    let name = |heading, least| Column(heading, Constraint::Min(least), Some(Sort::Name), |line| line.name.clone());
    let to = Column("MOST GO TO", Constraint::Fill(2), None, Line::to);
    let who = Column("WHO", Constraint::Fill(2), None, Line::who);
    match view {
        View::Source => vec![flows, share, new, growth, unreplied, name("SOURCE", 15), to, who],
        View::Net => vec![flows, share, new, growth, unreplied, name("NETWORK", 24), to],
        View::Destination => vec![flows, share, growth, name("DESTINATION", 20)],
        View::Port => vec![flows, share, growth, name("PORT", 20)],
        View::Process => vec![flows, share, new, growth, name("PROCESS", 20), to],
    }
}

/// The headings of a view's columns, as wide as what is in them, and that.
pub(super) fn heading(view: View) -> Vec<(String, Content)> {
    let one = |Column(name, width, _, content): Column| (wide(name.to_owned(), width), content);
    columns(view).into_iter().map(one).collect()
}

/// Numbers and their headings stand on the right.
fn wide(text: String, width: Constraint) -> String {
    if let Constraint::Length(width) = width { format!("{text:>0$}", usize::from(width)) } else { text }
}

fn signed(growth: f64) -> String {
    let text = rate(growth);
    if growth > 0.0 && text != "0" { format!("+{text}") } else { text }
}

fn table(frame: &mut Frame<'_>, app: &mut App, area: Rect, color: bool) {
    app.page = usize::from(area.height.saturating_sub(1)).max(1);
    let columns = columns(app.view);
    let sorting = matches!(app.mode, Mode::Sorting);
    let heading = columns.iter().map(|Column(name, width, sort, _)| {
        let by = *sort == Some(app.sort);
        let mark = match (by, app.inverted) {
            (true, false) => "v",
            (true, true) => "^",
            _ => "",
        };
        let text = wide(format!("{name}{mark}"), *width);
        let style = if by && sorting { Style::new().add_modifier(Modifier::UNDERLINED | Modifier::BOLD) } else { Style::new() };
        Cell::from(text).style(style)
    });
    let heading = Row::new(heading.collect::<Vec<_>>()).style(heading_style(color));
    let rows = app.lines.iter().map(|line| Row::new(columns.iter().map(|Column(.., content)| Cell::from(content(line)))));
    let widths = columns.iter().map(|Column(_, width, ..)| *width);
    let table = Table::new(rows, widths).header(heading).row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_offset(app.first).with_selected((!app.lines.is_empty()).then_some(app.chosen));
    frame.render_stateful_widget(table, area, &mut state);
    app.first = state.offset();
}

fn heading_style(color: bool) -> Style {
    if color { Style::new().fg(Color::Black).bg(Color::Green) } else { Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED) }
}

/// A text that may be longer than the screen.
fn text(frame: &mut Frame<'_>, app: &mut App, area: Rect, told: String) {
    let lines = u16::try_from(told.lines().count()).unwrap_or(u16::MAX);
    app.scrolled = app.scrolled.min(lines.saturating_sub(area.height));
    frame.render_widget(Paragraph::new(told).scroll((app.scrolled, 0)), area);
}

/// All about one source.
fn detail(prefix: Prefix, detail: Option<&Detail>) -> String {
    let mut told = format!("{}\n", whom(&prefix));
    let Some(Detail { census, behind }) = detail else { return told + "\n  looking ..." };
    let mut say = |what: &str, text: String| {
        if !text.is_empty() {
            // A line to a string cannot fail.
            let _ = writeln!(told, "  {what:<12}{}", excerpt(text.as_bytes()));
        }
    };
    say("is", behind.to_string());
    for (process, flows) in behind.processes.iter().take(8) {
        say("sockets of", format!("{flows:>8}  {process}"));
    }
    say("hidden", behind.hidden.clone().unwrap_or_default());
    say("flows", format!("{}, unreplied {}, unassured {}", census.flows, census.unreplied, census.unassured));
    say("states", states(census));
    say(
        "protocols",
        census.protocols.iter().map(|(number, flows)| format!("{} {flows}", Protocol(*number))).collect::<Vec<_>>().join("  "),
    );
    if !prefix.is_host() {
        for row in census.top.iter().take(10) {
            say("host", format!("{:>8}  {}", row.flows, whom(&row.prefix)));
        }
    }
    for (to, flows) in census.endpoints.iter().take(20) {
        say("to", format!("{flows:>8}  {to}"));
    }
    for (protocol, port, flows) in census.ports.iter().take(10) {
        say("port", format!("{flows:>8}  {port}/{}", Protocol(*protocol)));
    }
    told
}

fn footer(app: &App) -> Text<'static> {
    match &app.mode {
        Mode::Filter => return Text::from(format!("Filter: {}_   Enter keeps it, Esc clears it", excerpt(app.filter.as_bytes()))),
        Mode::Sorting => return Text::from("Sort: Left Right choose the column, I the other way round, Enter done"),
        Mode::Confirm(prefix, flows) => {
            let text = format!("End all {flows} flows of {} now? It may open new ones at once. y/n", whom(prefix));
            return Text::from(Span::styled(text, Style::new().add_modifier(Modifier::BOLD)));
        }
        _ => {}
    }
    if let Some(message) = &app.message {
        return Text::from(Span::styled(message.clone(), Style::new().add_modifier(Modifier::BOLD)));
    }
    let keys: &[(&str, &str)] = match app.mode {
        Mode::Table => &[
            ("F1", "Help"),
            ("Enter", "Details"),
            ("F4", "Filter"),
            ("Tab", "View"),
            ("F6", "Sort"),
            ("F9", "Kill"),
            ("Space", "Pause"),
            ("F10", "Quit"),
        ],
        Mode::Detail(_) => &[("Up/Down", "Scroll"), ("F9", "Kill"), ("Esc", "Back"), ("F10", "Quit")],
        _ => &[("Up/Down", "Scroll"), ("Esc", "Back"), ("F10", "Quit")],
    };
    let mut spans = Vec::new();
    for (key, what) in keys {
        spans.push(Span::raw((*key).to_owned()));
        spans.push(Span::styled(format!("{what} "), Style::new().add_modifier(Modifier::REVERSED)));
    }
    Text::from(spans)
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::{look, row};
    use super::*;
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use palisade_core::flood::owner::{Behind, Process};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    const TO: &str = "203.0.113.1:443/tcp";

    fn app() -> App {
        let mut app = App::new(View::Source, Sort::Flows, None);
        app.looked(look(0, vec![row("192.0.2.1/32", 50, 5, 1.0, TO), row("2001:db8::1/128", 50, 40, 9.0, TO)]));
        let mut second = look(2, vec![row("192.0.2.1/32", 300, 5, 125.0, TO), row("2001:db8::1/128", 40, 40, 0.0, "203.0.113.2:53/udp")]);
        second.gauge.drop = 3;
        let process = Process { pid: 7, comm: "cu\x1b[2Jrl".to_owned(), uid: 1000, user: Some("anna".to_owned()), unit: None };
        second.processes.insert("192.0.2.1/32".parse().unwrap(), process);
        app.looked(second);
        app
    }

    fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, app, true)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect()
    }

    fn press(app: &mut App, codes: &[KeyCode]) {
        for code in codes {
            app.key(KeyEvent::new(*code, KeyModifiers::NONE));
        }
    }

    #[test]
    fn the_table_is_drawn_whole() {
        let shown = screen(&mut app(), 120, 10);
        let expected = [
            "palisade conntrack top                                                                                      17:00:00 UTC",
            &format!("Table [{}{}340/680 50.0%]", "|".repeat(49), " ".repeat(50)),
            "New 12/s  Dropped +3  Early +0  Failed +0  Sources 2 (half hold up to 0, nine in ten up to 0)",
            "tcp 50% udp 25%  ESTABLISHED 170 SYN_SENT 85  unreplied 10% unassured 0%",
            " source  net  destination  port  process",
            "  FLOWSv  SHARE    NEW/s GROWTH/s   UNREPL SOURCE",
            "     300  88.2%      125     +125        5 192.0.2.1",
            "      40  11.8%        0     -5.0       40 2001:db8::1",
            "",
            "F1Help EnterDetails F4Filter TabView F6Sort F9Kill SpacePause F10Quit",
        ];
        for (at, expected) in expected.iter().enumerate() {
            assert!(shown[at].starts_with(expected), "line {at}: {}\nexpected {expected}", shown[at]);
        }
        assert!(shown[6].contains("203.0.113.1:443/tcp 50%") && shown[6].contains("cu\\u{1b}[2Jrl"), "{}", shown[6]);
        assert!(shown[7].contains("203.0.113.2:53/udp 50%"), "{}", shown[7]);
    }

    #[test]
    fn it_follows_the_chosen_row_and_says_what_is_asked() {
        let rows = (1..=40).map(|n| row(&format!("192.0.2.{n}/32"), 1000 - n, 0, 0.0, TO)).collect();
        let mut app = App::new(View::Source, Sort::Flows, None);
        app.looked(look(0, rows));
        screen(&mut app, 100, 12);
        assert_eq!(app.page, 5);
        press(&mut app, &[KeyCode::PageDown, KeyCode::PageDown]);
        let shown = screen(&mut app, 100, 12).join("\n");
        assert!(shown.contains("192.0.2.11 ") && !shown.contains("192.0.2.1 "), "{shown}");
        press(&mut app, &[KeyCode::F(9)]);
        assert!(screen(&mut app, 100, 12)[11].starts_with("End all 989 flows of 192.0.2.11 now?"));
        press(&mut app, &[KeyCode::Char('n'), KeyCode::Char('/'), KeyCode::Char('7')]);
        assert!(screen(&mut app, 100, 12)[11].starts_with("Filter: 7_"));
    }

    #[test]
    fn details_are_told_once_they_are_known() {
        let mut app = app();
        press(&mut app, &[KeyCode::Enter]);
        assert!(screen(&mut app, 100, 20).join("\n").contains("looking ..."));
        let of = "192.0.2.1/32".parse().unwrap();
        let process = Process { pid: 7, comm: "curl".to_owned(), uid: 1000, user: Some("anna".to_owned()), unit: None };
        let behind = Behind { host: Some("lap\x07top".to_owned()), processes: vec![(process, 12)], ..Behind::default() };
        let census = look(0, vec![row("192.0.2.1/32", 300, 5, 1.0, TO)]).census;
        app.detailed(of, Detail { census, behind });
        let shown = screen(&mut app, 100, 20);
        assert!(shown[5] == "192.0.2.1" && shown[6].contains("lap\\u{7}top, curl (pid 7, user anna)"), "{shown:?}");
        assert!(shown.contains(&"  to               150  203.0.113.1:443/tcp".to_owned()), "{shown:?}");
    }

    #[test]
    fn no_size_and_no_view_is_too_much_for_it() {
        for (width, height) in [(1, 1), (7, 3), (20, 6), (80, 24), (300, 100)] {
            for code in [KeyCode::Null, KeyCode::F(1), KeyCode::Enter, KeyCode::F(6), KeyCode::F(9), KeyCode::Char('/')] {
                let mut app = app();
                for _ in View::ALL {
                    press(&mut app, &[code]);
                    screen(&mut app, width, height);
                    press(&mut app, &[KeyCode::Esc, KeyCode::Tab]);
                }
                screen(&mut App::new(View::Net, Sort::New, None), width, height);
            }
        }
    }

    #[test]
    fn a_table_without_bound_or_beyond_it_has_a_bar() {
        let line = |count, max| bar(&Gauge { count, max, ..Gauge::default() }, 40, false).to_string();
        assert_eq!(line(5, 0), format!("Table [{}5 (no bound)]", " ".repeat(20)));
        assert_eq!(line(20, 10), format!("Table [{} 20/10 200.0%]", "|".repeat(19)));
    }
}
