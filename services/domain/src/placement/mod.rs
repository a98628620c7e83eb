//! Which executor takes which job. It knows amounts and what waits; no clock, no store, no message.

mod amounts;
mod board;
mod executors;
mod explain;
mod fleet;
mod mix;
mod queue;
mod reserve;
mod round;
mod types;
mod worth;

pub use amounts::{Lot, ModelId, Models, Room, Shape, Take, WHOLE};
pub use board::Board;
pub use explain::{Fit, Obstacle, explain, fit, sentence};
pub use fleet::{Fleet, ShapeId, Slot};
pub use round::Reservation;
pub use types::{Choice, Ends, Holding, Moment, Node, Opening, Placement, Plan, Request, Trial};
pub use worth::{Policy, Scale};
