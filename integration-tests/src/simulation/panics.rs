//! Panics of a run: a run keeps to its thread, and so do they.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Begins to note the panics of this thread.
pub fn note() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            SEEN.with_borrow_mut(|seen| seen.push(info.to_string()));
            before(info);
        }));
    });
    SEEN.with_borrow_mut(Vec::clear);
}

/// Takes the panics of this thread since `note`.
pub fn taken() -> Vec<String> {
    SEEN.with_borrow_mut(std::mem::take)
}
