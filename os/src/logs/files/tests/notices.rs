//! Notices of the kernel that do not come, say less, or are lost.

use std::fs::{self, File};

use palisade_core::time::Span;

use super::super::inotify::tests::WITHOUT_NAMES;
use super::Scene;
use super::lines::one_written_line_makes_the_descriptor_ready_and_one_pump_reads_it;
use super::paths::{
    a_followed_log_replaced_by_a_link_is_refused, a_linked_directory_above_is_fine, late_files_late_directories_and_returns,
    patterns_are_expanded_live,
};
use super::rotation::{
    a_pattern_that_matches_rotated_names_reads_nothing_twice, copied_and_truncated, renamed_and_created_anew_nothing_is_lost,
    rotated_while_away_the_rest_comes_first, the_line_begun_in_the_old_file_is_completed_there,
};

#[test]
fn without_inotify_looking_does_it() {
    let mut scene = Scene::new(&["log", "*.log"]);
    scene.notify = false;
    scene.write("log", "");
    scene.start();
    assert!(scene.files.as_ref().unwrap().fd().is_none());
    assert!(scene.other().iter().any(|o| o.contains("no inotify watches are left")));
    scene.write("log", "1\n");
    scene.write("x.log", "x\n");
    let deadline = scene.files.as_ref().unwrap().next_deadline().unwrap();
    assert_eq!(deadline.since(scene.now), Span::millis(250));
    scene.now = deadline;
    let mut lines = scene.lines();
    lines.sort();
    assert_eq!(lines, ["1", "1: x"]);
    scene.write("log", "2\n");
    scene.rename("log", "log.1");
    scene.write("log", "3\n");
    scene.later(Span::millis(250));
    assert_eq!(scene.lines(), ["2", "3"]);
}

/// FreeBSD's way: a directory says only that something in it is another.
#[test]
fn without_names_in_the_notices_files_are_followed_all_the_same() {
    WITHOUT_NAMES.set(true);
    for test in [
        one_written_line_makes_the_descriptor_ready_and_one_pump_reads_it,
        renamed_and_created_anew_nothing_is_lost,
        the_line_begun_in_the_old_file_is_completed_there,
        copied_and_truncated,
        late_files_late_directories_and_returns,
        patterns_are_expanded_live,
        a_pattern_that_matches_rotated_names_reads_nothing_twice,
        rotated_while_away_the_rest_comes_first,
        a_followed_log_replaced_by_a_link_is_refused,
        a_linked_directory_above_is_fine,
        lost_notices_mean_looking_at_everything,
    ] {
        test();
    }
    WITHOUT_NAMES.set(false);
}

#[test]
fn lost_notices_mean_looking_at_everything() {
    let mut scene = Scene::simple();
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // Different names in turn, as equal notices in a row are merged.
    for n in 0..=most / 2 {
        File::create(scene.path(if n % 2 == 0 { "a" } else { "b" })).unwrap();
        fs::remove_file(scene.path(if n % 2 == 0 { "a" } else { "b" })).unwrap();
    }
    scene.rename("log", "log.1");
    scene.write("log.1", "1\n");
    scene.write("log", "2\n");
    assert_eq!(scene.lines(), ["1", "2"]);
}
