use serde::{Deserialize, Serialize};

use crate::{Command, nesting};

/// Who a request comes from, and the auth revision under which that was found out (etcd `auth.AuthInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The user's name.
    pub user: String,
    /// The revision of users and roles then; 0 if the caller did not say who they are.
    pub auth_revision: u64,
}

impl Caller {
    /// A caller who did not say who they are.
    pub fn anonymous() -> Caller {
        Caller::default()
    }

    /// Whether the caller did not say who they are.
    pub fn is_anonymous(&self) -> bool {
        self.auth_revision == 0
    }
}

/// A command together with who asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorized {
    /// Who asked.
    pub caller: Caller,
    /// What for. Never [`Command::Authorized`] again.
    #[serde(with = "nesting")]
    pub command: Box<Command>,
}

impl Command {
    /// This command as `caller` asks for it.
    ///
    /// Changes of keys by nobody in particular stay as they are: plain ones are judged as anonymous anyway, and so
    /// they cost nothing while authentication is off.
    pub fn by(self, caller: Caller) -> Command {
        let is_plain_anonymous = matches!(self, Command::Put(_) | Command::DeleteRange(_) | Command::Txn(_));
        if (caller.is_anonymous() && is_plain_anonymous) || matches!(self, Command::Authorized(_)) {
            return self;
        }
        Command::Authorized(Authorized { caller, command: Box::new(self) })
    }
}
