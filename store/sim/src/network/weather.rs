//! What the network does to messages.

/// How the network behaves.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// The least a message takes.
    pub latency_micros_min: u64,
    /// The most it usually takes.
    pub latency_micros_max: u64,
    /// In a million messages, so many are lost and come only with a retransmission.
    pub lost_per_million: u64,
    /// In a million messages, so many break their connection.
    pub broken_per_million: u64,
    /// In a million calls that may, so many come twice.
    pub doubled_per_million: u64,
}

impl Weather {
    /// A quiet local network.
    pub const FAIR: Self = Self {
        latency_micros_min: 200,
        latency_micros_max: 1_500,
        lost_per_million: 0,
        broken_per_million: 0,
        doubled_per_million: 0,
    };
}
