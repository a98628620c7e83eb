//! Which executor takes which job. It knows amounts and what waits; no clock, no store, no message.

mod amounts;
mod best_fit;
mod fleet;
mod mix;
mod worth;

pub use amounts::{Lot, ModelId, Models, Room, Shape, Take, WHOLE};
pub use best_fit::{Choice, Node, Obstacle, Request, explain, plan};
pub use fleet::{Fleet, ShapeId, Slot};
pub use worth::{Policy, Scale};
