//! The wire contracts of Xebec, compiled from the `.proto` files of this crate: messages, gRPC clients and servers.
//!
//! Modules follow the packages: [`etcdserverpb`], [`mvccpb`], [`authpb`], [`v3lockpb`] and [`v3electionpb`] are etcd's v3
//! API, [`grpc`] the standard health protocol, [`xebec`] (`xebec::peer::v1`) what store members say to each other. A new
//! `.proto` file under `proto/` appears here by itself, under its package's name. Beside them stands [`was_not_sent`], which all who
//! repeat calls ask.

mod unsent;

pub use unsent::was_not_sent;

mod generated {
    #![allow(clippy::all, clippy::unwrap_used, missing_docs, rustdoc::all)]
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

pub use generated::*;

/// The descriptors of all of it, an encoded `google.protobuf.FileDescriptorSet`: for what works by reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
