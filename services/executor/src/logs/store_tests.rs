//! Promises of the kept output: nothing is lost, repeated or unbounded.

use std::time::Duration;

use berth_domain::ids::JobId;
use bytes::Bytes;

use super::*;
use crate::clock::TokioClock;
use crate::disk::MemoryDisk;
use crate::runtime::{OutputLine, OutputStream};

fn attempt(job: &str) -> AttemptRef {
    AttemptRef { job: JobId::trusted(job), number: 1, epoch: 5 }
}

fn limits() -> LogLimits {
    LogLimits { attempt_bytes: 100, total_bytes: 400, age: Duration::from_secs(60) }
}

fn disk() -> Arc<MemoryDisk> {
    Arc::new(MemoryDisk::new(Arc::new(TokioClock::at(0))))
}

fn out(time_ns: u64, text: &str) -> OutputLine {
    OutputLine { stream: OutputStream::Stdout, time_ns, bytes: Bytes::copy_from_slice(text.as_bytes()) }
}

fn err(time_ns: u64, text: &str) -> OutputLine {
    OutputLine { stream: OutputStream::Stderr, ..out(time_ns, text) }
}

async fn text(store: &LogStore, attempt: &AttemptRef, from: u64) -> (String, u64) {
    let mut reader = store.reader(attempt, from, false).await.expect("readable").expect("kept");
    let (mut text, mut dropped) = (String::new(), 0);
    while let Some(batch) = reader.next().await.expect("readable") {
        for (offset, line) in batch.lines {
            assert_eq!(offset, from + text.len() as u64, "offsets count every byte");
            text.push_str(&String::from_utf8_lossy(&line.bytes));
        }
        dropped = batch.dropped_bytes;
    }
    (text, dropped)
}

#[tokio::test]
async fn a_resumed_capture_neither_loses_nor_repeats_a_line() {
    let disk = disk();
    let store = LogStore::new(disk.clone(), limits());
    let lines =
        [out(10, "a\n"), out(20, "b\n"), out(20, "c\n"), err(15, "e\n"), err(30, "f\n"), out(40, "d\n")];
    for cut in 0..=lines.len() {
        let key = attempt(&format!("j{cut}"));
        let mut writer = store.writer(&key).await.expect("it opens");
        writer.append(lines[..cut].to_vec()).await.expect("written");
        drop(writer);
        // Another process takes over, and the engine repeats everything.
        let store = LogStore::new(disk.clone(), limits());
        let mut writer = store.writer(&key).await.expect("it opens");
        writer.reopened();
        writer.append(lines.to_vec()).await.expect("written");
        writer.reopened();
        writer.append(lines.to_vec()).await.expect("written");
        writer.finish(None).await.expect("finished");
        assert_eq!(text(&store, &key, 0).await.0, "a\nb\nc\ne\nf\nd\n", "cut at {cut}");
    }
}

#[tokio::test]
async fn half_a_frame_of_a_crash_is_cut_off() {
    let disk = disk();
    let key = attempt("j");
    let store = LogStore::new(disk.clone(), limits());
    store.writer(&key).await.expect("opens").append(vec![out(1, "whole\n")]).await.expect("written");
    disk.append(&frame::path(&key), &[0xB5, 1, 0]).await.expect("written");
    let store = LogStore::new(disk, limits());
    let mut writer = store.writer(&key).await.expect("it opens");
    writer.append(vec![out(2, "next\n")]).await.expect("written");
    assert_eq!(text(&store, &key, 0).await.0, "whole\nnext\n");
}

#[tokio::test]
async fn reading_resumes_at_any_byte() {
    let store = LogStore::new(disk(), limits());
    let key = attempt("j");
    let mut writer = store.writer(&key).await.expect("it opens");
    writer.append(vec![out(1, "hello\n"), out(2, "world\n")]).await.expect("written");
    for from in 0..=12_u64 {
        let from_usize = usize::try_from(from).expect("small");
        assert_eq!(text(&store, &key, from).await.0, "hello\nworld\n"[from_usize..]);
    }
}

#[tokio::test]
async fn output_beyond_the_share_is_dropped_counted_and_marked_once() {
    let store = LogStore::new(disk(), limits());
    let key = attempt("j");
    let mut writer = store.writer(&key).await.expect("it opens");
    let long = "x".repeat(60);
    writer.append(vec![out(1, &long), out(2, &long), out(3, &long)]).await.expect("written");
    writer.finish(None).await.expect("finished");
    let (kept, dropped) = text(&store, &key, 0).await;
    assert_eq!(dropped, 120);
    assert!(kept.starts_with(&long) && kept.matches("[berth]").count() == 1, "{kept}");
    // The count outlives the process.
    let later = LogStore::new(store.disk.clone(), limits());
    assert_eq!(text(&later, &key, 0).await.1, 120);
}

#[tokio::test]
async fn a_follower_sees_each_line_and_the_end() {
    let store = LogStore::new(disk(), limits());
    let key = attempt("j");
    let mut writer = store.writer(&key).await.expect("it opens");
    let mut reader = store.reader(&key, 0, true).await.expect("readable").expect("kept");
    let follower = tokio::spawn(async move {
        let mut lines = 0;
        while let Some(batch) = reader.next().await.expect("readable") {
            lines += batch.lines.len();
        }
        lines
    });
    for time in 1..=5 {
        writer.append(vec![out(time, "l\n")]).await.expect("written");
        tokio::task::yield_now().await;
    }
    writer.finish(None).await.expect("finished");
    assert_eq!(follower.await.expect("it ends"), 5);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_complete_output_goes_first_and_a_growing_one_stays() {
    let store = LogStore::new(disk(), limits());
    let mut growing = store.writer(&attempt("growing")).await.expect("it opens");
    growing.append(vec![out(1, &"g".repeat(90))]).await.expect("written");
    for job in ["old", "mid", "new"] {
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut writer = store.writer(&attempt(job)).await.expect("it opens");
        writer.append(vec![out(1, &"x".repeat(90))]).await.expect("written");
        writer.finish(None).await.expect("finished");
    }
    store.sweep().await.expect("swept");
    let kept = |job: &'static str| {
        let store = store.clone();
        async move { store.reader(&attempt(job), 0, false).await.expect("readable").is_some() }
    };
    assert!(kept("growing").await && !kept("old").await && kept("new").await);
    tokio::time::advance(Duration::from_secs(120)).await;
    store.sweep().await.expect("swept");
    assert!(kept("growing").await && !kept("new").await);
}

#[tokio::test]
async fn epoch_zero_finds_the_attempt_by_its_number() {
    let store = LogStore::new(disk(), limits());
    store.writer(&attempt("j")).await.expect("opens").append(vec![out(1, "x")]).await.expect("written");
    let any = AttemptRef { epoch: 0, ..attempt("j") };
    assert_eq!(text(&store, &any, 0).await.0, "x");
}
