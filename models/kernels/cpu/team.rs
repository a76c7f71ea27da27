use std::any::Any;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a thread waits awake for the next piece of work: longer than a layer takes between two products, and far
/// less than anybody notices.
const AWAKE: Duration = Duration::from_micros(200);

/// Turns of a loop that waits, before other threads are let by.
const TURNS: usize = 64;

/// Does `work` for each of `parts`, on as many threads as rayon has where this is called from. The calling thread takes
/// part, and no other is waited for but for parts that it has begun.
///
/// A token takes a hundred such calls of some 100 µs each, between which rayon's threads fall asleep: to be woken costs
/// them tens of µs. That is why these are threads of our own; rayon's, begun by the question for their number, sleep on.
///
/// # Panics
/// As `work` does: alone at once, and with others when all parts are done.
pub(crate) fn each<T: Send>(parts: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    let parts: Vec<_> = parts.into_iter().map(|part| Mutex::new(Some(part))).collect();
    let one = |i: usize| {
        let part = lock(&parts[i]).take();
        work(part.expect("no part is done twice"));
    };
    match rayon::current_num_threads().min(parts.len()) {
        0 | 1 => (0..parts.len()).for_each(one),
        threads => TEAM.share(parts.len(), threads - 1, &one),
    }
}

static TEAM: Team = Team::new();

/// Threads that help whoever asks, begun when they are first asked for.
struct Team {
    /// What was asked for last; those who asked before get no more helpers.
    job: Mutex<Option<Arc<Job>>>,
    /// How many jobs there have been.
    jobs: AtomicUsize,
    members: Mutex<Vec<Member>>,
}

struct Member {
    thread: Thread,
    sleeps: Arc<AtomicBool>,
}

impl Team {
    const fn new() -> Self {
        Self { job: Mutex::new(None), jobs: AtomicUsize::new(0), members: Mutex::new(Vec::new()) }
    }

    /// Does `work` for each number below `parts`, with some threads' help.
    fn share(&'static self, parts: usize, helpers: usize, work: &(dyn Fn(usize) + Sync)) {
        self.hire(helpers);
        let job = Arc::new(Job::new(parts, 1 + helpers, work));
        // From here on others hold `work`: nothing may unwind before all parts are done.
        *lock(&self.job) = Some(job.clone());
        self.jobs.fetch_add(1, SeqCst);
        self.wake(helpers);
        job.help();
        while !comes_true(AWAKE, || job.done.load(Acquire) == parts) {}
        if let Some(panic) = lock(&job.panic).take() {
            resume_unwind(panic);
        }
    }

    fn hire(&'static self, helpers: usize) {
        let mut members = lock(&self.members);
        while members.len() < helpers {
            let sleeps = Arc::new(AtomicBool::new(false));
            let thread = thread::Builder::new().name("leveret-team".into());
            let of_thread = sleeps.clone();
            // Where the system gives no more threads, fewer do the work.
            let Ok(thread) = thread.spawn(move || self.help(&of_thread)) else { break };
            members.push(Member { thread: thread.thread().clone(), sleeps });
        }
    }

    fn wake(&self, helpers: usize) {
        for member in lock(&self.members).iter().take(helpers) {
            if member.sleeps.swap(false, SeqCst) {
                member.thread.unpark();
            }
        }
    }

    /// Helps with one job after another, for good.
    fn help(&self, sleeps: &AtomicBool) {
        let mut seen = 0;
        loop {
            if !comes_true(AWAKE, || self.jobs.load(SeqCst) != seen) {
                // Who asks counts the job before it looks who sleeps: one of both sees the other.
                sleeps.store(true, SeqCst);
                while self.jobs.load(SeqCst) == seen && sleeps.load(SeqCst) {
                    thread::park();
                }
                sleeps.store(false, SeqCst);
            }
            seen = self.jobs.load(SeqCst);
            let job = lock(&self.job).clone();
            if let Some(job) = job {
                job.help();
            }
        }
    }
}

/// Parts of work, cut in shares of neighbours: memory is read best by a thread that goes on where it was. Who is done with
/// a share of his own helps with the others'.
struct Job {
    /// Only good while a part is not done: it lies with the thread that waits for all of them.
    work: *const (dyn Fn(usize) + Sync),
    parts: usize,
    /// The part of each share that comes next.
    next: Vec<AtomicUsize>,
    /// How many shares have somebody.
    taken: AtomicUsize,
    done: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `work` is a reference to what threads may share, followed as `help` says; all else is made to be sent.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Job {
    fn new(parts: usize, shares: usize, work: &(dyn Fn(usize) + Sync)) -> Self {
        type Work<'a> = *const (dyn Fn(usize) + Sync + 'a);
        // SAFETY: a pointer may outlive what it points to; `help` follows it while `share` waits, which does not unwind.
        let work = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) };
        let next = (0..shares).map(|share| AtomicUsize::new(parts * share / shares)).collect();
        let [taken, done] = [0, 0].map(AtomicUsize::new);
        Self { work, parts, next, taken, done, panic: Mutex::new(None) }
    }

    /// Does parts until there are none left, unless there are as many threads as shares.
    fn help(&self) {
        let share = self.taken.fetch_add(1, Relaxed);
        if share >= self.next.len() {
            return;
        }
        while let Some(part) = self.begin(share) {
            // SAFETY: this part is not done, so that who asked for it still waits, and `work` is where it was.
            let work = unsafe { &*self.work };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(part))) {
                let mut first = lock(&self.panic);
                match *first {
                    None => *first = Some(panic),
                    // To drop it might panic, and then this part would never be done.
                    Some(_) => std::mem::forget(panic),
                }
            }
            self.done.fetch_add(1, Release);
        }
    }

    /// A part that nobody has begun, of this share if there is one.
    fn begin(&self, share: usize) -> Option<usize> {
        let shares = self.next.len();
        (share..shares).chain(0..share).find_map(|share| {
            let (next, end) = (&self.next[share], self.parts * (share + 1) / shares);
            let is_open = next.load(Relaxed) < end;
            is_open.then(|| next.fetch_add(1, Relaxed)).filter(|part| *part < end)
        })
    }
}

/// Waits awake until something is so, or the time is over.
fn comes_true(within: Duration, what: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        for _ in 0..TURNS {
            if what() {
                return true;
            }
            spin_loop();
        }
        if begun.elapsed() > within {
            return false;
        }
        thread::yield_now();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// One of a test's own: others' jobs would take its threads.
    fn team() -> &'static Team {
        Box::leak(Box::new(Team::new()))
    }

    /// Every part is done once, by callers that ask at the same time and from within one another's parts.
    #[test]
    fn every_part_is_done_once() {
        let team = team();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for parts in (0..200).chain([5000]) {
                        let done: Vec<_> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                        team.share(parts, 1 + parts % 3, &|part| {
                            let inner = AtomicUsize::new(0);
                            team.share(parts % 7, 2, &|_| _ = inner.fetch_add(1, Relaxed));
                            done[part].fetch_add(1 + inner.into_inner(), Relaxed);
                        });
                        assert!(done.into_iter().all(|done| done.into_inner() == 1 + parts % 7));
                    }
                });
            }
        });
    }

    /// Parts come to `work` as they are, be they many or none.
    #[test]
    fn each_takes_every_part() {
        for parts in [0, 1, 2, 1000] {
            let mut done = vec![0; parts];
            each(done.iter_mut().enumerate(), |(i, done)| *done += i);
            assert!(done.into_iter().eq(0..parts));
        }
    }

    /// Threads that have fallen asleep are woken.
    #[test]
    fn sleepers_help() {
        let team = team();
        for _ in 0..20 {
            thread::sleep(3 * AWAKE);
            let threads = Mutex::new(HashSet::new());
            team.share(2, 1, &|_| {
                lock(&threads).insert(thread::current().id());
                comes_true(Duration::from_secs(10), || lock(&threads).len() == 2);
            });
            assert_eq!(lock(&threads).len(), 2);
        }
    }

    /// Parts that panic are no end of others, and a message reaches the caller.
    #[test]
    fn a_panic_comes_out() {
        let done = AtomicUsize::new(0);
        let all = AssertUnwindSafe(|| {
            team().share(100, 2, &|part| {
                assert!(part % 50 != 49, "part {part}");
                done.fetch_add(1, Relaxed);
            });
        });
        let message = catch_unwind(all).expect_err("a part panics");
        let message = message.downcast_ref::<String>().map(String::as_str);
        assert!(matches!(message, Some("part 49" | "part 99")), "{message:?}");
        assert_eq!(done.into_inner(), 98);
    }
}
