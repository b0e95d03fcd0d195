//! What counts as a line, and how much is read at once.

use palisade_core::time::Span;

use super::Scene;
use crate::wake;

#[test]
fn old_lines_are_history_new_lines_are_read() {
    let mut scene = Scene::new(&["log"]);
    scene.write("log", "old\nbegun ");
    scene.start();
    assert!(scene.lines().is_empty());
    scene.write("log", "before\r\nnul \0 and \n");
    scene.write("log", b"broken \xff utf8\n\n");
    assert_eq!(scene.lines(), ["begun before", "nul \0 and ", "broken \u{fffd} utf8", ""]);
    assert!(scene.other().is_empty());
}

#[test]
pub(super) fn one_written_line_makes_the_descriptor_ready_and_one_pump_reads_it() {
    let mut scene = Scene::simple();
    scene.write("log", "one\n");
    let fd = scene.files.as_ref().unwrap().fd().unwrap();
    assert!(wake::poll(&[fd], None, Some(Span::ZERO)).unwrap().at(0));
    assert!(!scene.pump(usize::MAX));
    assert_eq!(scene.lines, ["one"]);
}

#[test]
fn a_partial_line_waits_for_its_end_also_over_a_restart() {
    let mut scene = Scene::simple();
    scene.write("log", "one\nhal");
    assert_eq!(scene.lines(), ["one"]);
    scene.stop();
    scene.start();
    assert!(scene.lines().is_empty());
    scene.write("log", "f\n");
    assert_eq!(scene.lines(), ["half"]);
}

#[test]
fn an_over_long_line_is_dropped_whole_even_in_pieces_and_over_a_restart() {
    let mut scene = Scene::simple();
    let piece = "Failed password for root from 192.0.2.1 ".repeat(25);
    for _ in 0..500 {
        scene.write("log", &piece);
        scene.pump(300);
    }
    assert!(scene.lines().is_empty());
    scene.stop();
    scene.start();
    for _ in 0..548 {
        scene.write("log", &piece);
    }
    scene.write("log", "\nnext\n");
    assert_eq!(scene.lines(), ["log over 1048000", "next"]);
    scene.stop();
    scene.write("log", "after\n");
    scene.start();
    assert_eq!(scene.lines(), ["after"]);
}

#[test]
fn the_budget_is_kept_and_shared() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.write("a", "");
    scene.write("b", "");
    scene.start();
    scene.write("a", "a\n".repeat(100_000));
    scene.write("b", "b\n");
    // The quiet one does not wait for the loud one.
    assert!(scene.pump(1000));
    assert_eq!(scene.lines.iter().filter(|l| *l == "1: b").count(), 1);
    assert_eq!(scene.lines.len(), 500);
    scene.lines.clear();
    assert!(scene.pump(1000));
    assert_eq!(scene.lines.len(), 500);
    let rest = scene.lines();
    assert_eq!(rest.len(), 100_000 - 499);
}

#[test]
fn a_large_backlog_goes_on_however_much_the_small_ones_get() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.write("a", "");
    scene.write("b", "");
    scene.start();
    scene.write("a", "a\n".repeat(100_000));
    for n in 1..=10 {
        scene.write("b", "b\n".repeat(500));
        assert!(scene.pump(1000));
        assert_eq!(scene.lines.iter().filter(|l| *l == "1: b").count(), n * 500);
        assert_eq!(scene.lines.iter().filter(|l| *l == "a").count(), n * 500);
    }
}

#[test]
fn how_far_a_path_is_behind_is_told() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.write("a", "");
    scene.write("b", "");
    scene.start();
    let lags = |scene: &Scene| {
        let mut all = Vec::new();
        scene.files.as_ref().unwrap().lags(scene.now, &mut |lag| {
            all.push((lag.path.file_name().unwrap().to_string_lossy().into_owned(), lag.bytes, lag.since));
        });
        all
    };
    let none = |name: &str| (name.to_owned(), 0, Span::ZERO);
    assert_eq!(lags(&scene), [none("a"), none("b")]);
    scene.write("a", "a\n".repeat(200_000));
    scene.now = scene.now.plus(Span::secs(3));
    scene.pump(100_000);
    assert_eq!(lags(&scene), [("a".to_owned(), 300_000, Span::secs(3)), none("b")]);
    scene.settle();
    assert_eq!(lags(&scene), [none("a"), none("b")]);
}
