//! What Redis alone can take: the lives of jobs as its scripts write them, by a client that decides nothing. It does not
//! share a line with Berth: the bytes of the protocol are made here.
//!
//! Each life is what `docs/redis-keys.md` says: a record that changes four times, its spec, its places in the indexes,
//! what is reserved, entries of the log, and its end after retention. Steps of 100 jobs are one call of a script, which
//! checks the state that it finds; bulk commands move them in the indexes.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement ends when its ground gives way"
)]

mod resp;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use resp::Client;

/// Jobs of a call.
const STEP: usize = 100;
/// Calls on their way at the same time.
const ON_THEIR_WAY: usize = 8;
/// How many bytes a record has in Berth, and a spec.
const RECORD: usize = 220;
const SPEC: usize = 380;
/// Executors that the jobs are spread over.
const EXECUTORS: usize = 100;
/// So many ended jobs are kept.
const KEPT: usize = 20_000;
/// So many changes are kept in the log.
const LOG: usize = 200_000;

const SUBMIT: &str = r"
local p, n = KEYS[1], tonumber(redis.call('HGET', KEYS[1] .. 'meta', 'revision'))
local first, pending, jobs, change = n + 1, {}, {}, {}
for i = 2, #ARGV do
  local id = ARGV[i]
  if redis.call('EXISTS', p .. 'job:' .. id) == 0 then
    n = n + 1
    redis.call('HSET', p .. 'job:' .. id, 'record', ARGV[1], 'revision', n, 'submit', n, 'state', 'PENDING',
      'index', 'pending', 'attempt', '', 'reserved', '')
    redis.call('SET', p .. 'spec:' .. id, ARGV[1])
    pending[#pending + 1], pending[#pending + 2] = string.format('%.0f', 879609302220800 + n), id
    jobs[#jobs + 1], jobs[#jobs + 2] = n, id
    change[#change + 1] = ARGV[1]
  end
end
redis.call('ZADD', p .. 'pending', unpack(pending))
redis.call('ZADD', p .. 'jobs', unpack(jobs))
redis.call('HINCRBY', p .. 'counts', 'PENDING', #change)
redis.call('HSET', p .. 'meta', 'revision', n)
redis.call('XADD', p .. 'log', '1-' .. n, 'f', first, 'c', table.concat(change))
return n";

const MOVE: &str = r"
local p, n = KEYS[1], tonumber(redis.call('HGET', KEYS[1] .. 'meta', 'revision'))
local record, from, to, executor, sign = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local first, moved, added, change = n + 1, {}, {}, {}
local index, attempt, reserved, score = 'finished:1795570205743', '', '', '1795570205743'
if to == 'ASSIGNED' then
  index, attempt, reserved, score = 'assigned:' .. executor, '1:1795570205743', '100 1048576', '0'
end
for i = 6, #ARGV do
  local id = ARGV[i]
  local key = p .. 'job:' .. id
  if redis.call('HGET', key, 'state') == from then
    n = n + 1
    if to == 'RUNNING' then
      redis.call('HSET', key, 'revision', n, 'state', to, 'record', record)
    else
      redis.call('HSET', key, 'revision', n, 'state', to, 'index', index, 'attempt', attempt, 'reserved', reserved,
        'record', record)
      moved[#moved + 1] = id
      added[#added + 1], added[#added + 2] = score, id
    end
    change[#change + 1] = record
  end
end
if from == 'PENDING' then
  redis.call('ZREM', p .. 'pending', unpack(moved))
  redis.call('ZADD', p .. 'assigned:' .. executor, unpack(added))
elseif to == 'SUCCEEDED' then
  redis.call('ZREM', p .. 'assigned:' .. executor, unpack(moved))
  redis.call('ZADD', p .. 'finished', unpack(added))
end
if sign ~= 0 then
  redis.call('HINCRBY', p .. 'executor:' .. executor, 'reserved_cpu', sign * 100 * #change)
  redis.call('HINCRBY', p .. 'executor:' .. executor, 'reserved_memory', sign * 1048576 * #change)
end
redis.call('HINCRBY', p .. 'counts', from, -#change)
redis.call('HINCRBY', p .. 'counts', to, #change)
redis.call('HSET', p .. 'meta', 'revision', n)
redis.call('XADD', p .. 'log', '1-' .. n, 'f', first, 'c', table.concat(change))
return n";

const DELETE: &str = r"
local p, n = KEYS[1], tonumber(redis.call('HGET', KEYS[1] .. 'meta', 'revision'))
local first, gone, change = n + 1, {}, {}
for i = 2, #ARGV do
  local id = ARGV[i]
  if redis.call('HGET', p .. 'job:' .. id, 'state') == 'SUCCEEDED' then
    n = n + 1
    gone[#gone + 1] = id
    redis.call('UNLINK', p .. 'job:' .. id, p .. 'spec:' .. id)
    change[#change + 1] = id
  end
end
redis.call('ZREM', p .. 'finished', unpack(gone))
redis.call('ZREM', p .. 'jobs', unpack(gone))
redis.call('HINCRBY', p .. 'counts', 'SUCCEEDED', -#gone)
redis.call('HSET', p .. 'meta', 'revision', n)
redis.call('XADD', p .. 'log', '1-' .. n, 'f', first, 'c', table.concat(change))
redis.call('XTRIM', p .. 'log', 'MAXLEN', '~', ARGV[1])
return n";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (address, number, is_latency) = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [address, seconds] => (*address, seconds.parse(), false),
        [address, "--latency", runs] => (*address, runs.parse(), true),
        _ => {
            eprintln!("usage: redis-limit HOST:PORT SECONDS | HOST:PORT --latency RUNS");
            return ExitCode::from(2);
        }
    };
    let Some(number) = number.ok().filter(|number| *number > 0) else {
        eprintln!("{args:?}: is no number above 0.");
        return ExitCode::from(2);
    };
    let mut client = Client::connect(address).expect("Redis answers");
    if is_latency {
        let (p50, p99) = latency(&mut client, number);
        println!("{p50:.3} {p99:.3}");
    } else {
        println!("{:.0}", live(&mut client, Duration::from_secs(number)));
    }
    ExitCode::SUCCESS
}

/// Stores a submit and an assignment one after the other, so often; gives the median and the 99th percentile of both
/// together, in milliseconds.
fn latency(client: &mut Client, runs: u64) -> (f64, f64) {
    client.call(&["HSET", "{limit}:meta", "revision", "0"]);
    let [submit, shift] = [SUBMIT, MOVE].map(|script| client.call(&["SCRIPT", "LOAD", script]));
    let (record, spec) = ("r".repeat(RECORD), "s".repeat(SPEC));
    let mut times: Vec<Duration> = (0..runs)
        .map(|number| {
            let id = format!("0193cd02-7c4e-7000-8000-{number:012x}");
            let began = Instant::now();
            client.call(&["EVALSHA", &submit, "1", "{limit}:", &spec, &id]);
            client.call(&[
                "EVALSHA",
                &shift,
                "1",
                "{limit}:",
                &record,
                "PENDING",
                "ASSIGNED",
                "executor-001",
                "1",
                &id,
            ]);
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    let ms = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
    (ms(50), ms(99))
}

/// Plays lives for so long; gives how many ended a second, once deleting goes on beside them.
fn live(client: &mut Client, lasting: Duration) -> f64 {
    client.call(&["HSET", "{limit}:meta", "revision", "0"]);
    let scripts = [SUBMIT, MOVE, DELETE].map(|script| client.call(&["SCRIPT", "LOAD", script]));
    let (record, spec) = ("r".repeat(RECORD), "s".repeat(SPEC));
    let log = (LOG / STEP).to_string();
    let (mut kept, mut on_their_way) = (VecDeque::<Vec<String>>::new(), 0);
    let (mut began, mut ended, mut number) = (Instant::now(), 0_usize, 0_usize);
    let mut is_steady = false;
    loop {
        let ids: Vec<String> =
            (number..number + STEP).map(|at| format!("0193cd02-7c4e-7000-8000-{at:012x}")).collect();
        number += STEP;
        let executor = format!("executor-{:03}", (number / STEP) % EXECUTORS);
        let mut calls: Vec<(usize, Vec<&str>)> = vec![
            (0, vec![&spec]),
            (1, vec![&record, "PENDING", "ASSIGNED", &executor, "1"]),
            (1, vec![&record, "ASSIGNED", "RUNNING", &executor, "0"]),
            (1, vec![&record, "RUNNING", "SUCCEEDED", &executor, "-1"]),
        ];
        calls.iter_mut().for_each(|(_, args)| args.extend(ids.iter().map(String::as_str)));
        let gone = if kept.len() * STEP >= KEPT { kept.pop_front() } else { None };
        if let Some(gone) = &gone {
            if !is_steady {
                (is_steady, began, ended) = (true, Instant::now(), 0);
            }
            calls.push((2, [log.as_str()].into_iter().chain(gone.iter().map(String::as_str)).collect()));
        }
        for (script, args) in calls {
            let mut call = vec!["EVALSHA", &scripts[script], "1", "{limit}:"];
            call.extend(args);
            client.send(&call);
            on_their_way += 1;
            if on_their_way > ON_THEIR_WAY {
                client.receive();
                on_their_way -= 1;
            }
        }
        kept.push_back(ids);
        ended += STEP;
        if is_steady && began.elapsed() >= lasting {
            break;
        }
    }
    (0..on_their_way).for_each(|_| drop(client.receive()));
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let ended = ended as f64;
    ended / began.elapsed().as_secs_f64()
}
