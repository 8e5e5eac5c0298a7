//! Authentication at the server: whose request is this? What they may do is decided in `xebec_store_core::auth`.
//!
//! How another service uses it:
//!
//! ```text
//! let credentials = Credentials::of(&request);                       // before `request.into_inner()`
//! self.0.authorize(&credentials, Demand::Admin).await?;              // may they at all, as this member knows it now
//! let (view, caller) = self.0.view_as(&credentials, false).await?;   // a read: the view and who looks at it ...
//! permit(&view, &caller, Demand::Read(&range))?;                     // ... judged over that same view
//! self.0.propose_as(&credentials, command).await?;                   // a write: judged where it is applied
//! ```

mod authorize;
mod credentials;
mod fuzzing;
mod jwt;
mod options;
mod passwords;
mod service;
mod signing;
mod simple;

pub(crate) use authorize::{Authenticator, Demand, permit, watch_refusal};
pub(crate) use credentials::{CommonName, Credentials};
pub(crate) use fuzzing::{TokenChecker, read_token_options};
pub(crate) use options::{BCRYPT_COST_DEFAULT, TOKEN_TTL_SECONDS_DEFAULT};
pub(crate) use service::AuthService;
pub(crate) use simple::expire_tokens;
