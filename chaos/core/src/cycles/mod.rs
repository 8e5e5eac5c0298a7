//! Strict serializability of transactions over lists, by looking for cycles of dependencies.
//!
//! After Kingsbury & Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations" (2020), with the names of Adya's
//! thesis (1999). A list that was read tells the order of its appends, and with it who overwrote whom (ww), who read
//! whom (wr) and who read what another then changed (rw). In a serializable history these, together with real time, have
//! no cycle.

mod check;
mod graph;
mod lists;

pub use check::check;
