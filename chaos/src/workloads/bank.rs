//! Transfers between accounts.

use std::collections::BTreeMap;

use rand::RngExt as _;
use xebec_chaos_core::history::{Action, Answer};
use xebec_proto::{etcdserverpb::response_op::Response, mvccpb::KeyValue};

use super::Client;
use crate::etcd::{Etcd, Failure, created_at, get_op, number, put_op, unchanged_since, unsigned};

/// Accounts.
const ACCOUNTS: u32 = 6;
/// What each holds at first.
const BALANCE: i64 = 100;

/// Transfers of what an account can pay, and reads of all accounts.
pub async fn run(mut client: Client) {
    open(&mut client).await;
    while client.goes_on() {
        let (etcd, prefix) = (client.etcd(), client.key("bank/"));
        if client.rng.random_bool(0.6) {
            let from = client.rng.random_range(0..ACCOUNTS);
            let to = (from + client.rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
            let amount = client.rng.random_range(1..=30);
            let (from, to) = (format!("a{from}"), format!("a{to}"));
            let keys = [format!("{prefix}{from}"), format!("{prefix}{to}")];
            let work = async move { transfer(&etcd, &keys, amount).await };
            client.perform(Action::Transfer { from, to, amount }, work).await;
        } else {
            let work = async move {
                let balance = |kv: &KeyValue| {
                    let name = String::from_utf8_lossy(&kv.key).trim_start_matches(&prefix).to_owned();
                    Some((name, number(kv)?))
                };
                let balances: BTreeMap<_, _> = etcd.list(&prefix).await?.iter().filter_map(balance).collect();
                Ok(Answer { balances: Some(balances), ..Answer::default() })
            };
            client.perform(Action::ReadAccounts, work).await;
        }
    }
}

/// Opens all accounts in one transaction, once; whoever comes first does it. It is not part of the history.
async fn open(client: &mut Client) {
    let key = |account: u32, client: &Client| client.key(&format!("bank/a{account}"));
    while client.goes_on() {
        let puts = (0..ACCOUNTS).map(|account| put_op(&key(account, client), BALANCE.to_string())).collect();
        let first = created_at(&key(0, client), 0);
        let opening =
            tokio::time::timeout(super::REQUEST_TIMEOUT, client.etcd().txn(vec![first], puts, Vec::new())).await;
        if matches!(opening, Ok(Ok(_))) {
            return;
        }
        client.move_on();
        client.rest(std::time::Duration::from_millis(100)).await;
    }
}

async fn transfer(etcd: &Etcd, keys: &[String; 2], amount: i64) -> Result<Answer, Failure> {
    let gets = keys.iter().map(|key| get_op(key)).collect();
    let response = etcd.txn(Vec::new(), gets, Vec::new()).await.map_err(|failure| match failure {
        Failure::Refused(error) | Failure::Unknown(error) => Failure::Refused(error),
    })?;
    let accounts: Vec<(i64, i64)> = response
        .responses
        .into_iter()
        .filter_map(|response| match response.response? {
            Response::ResponseRange(range) => range.kvs.first().and_then(|kv| Some((number(kv)?, kv.mod_revision))),
            _ => None,
        })
        .collect();
    let [(payer, payer_changed), (payee, payee_changed)] = accounts[..] else {
        return Err(Failure::Refused("an account is missing".to_owned()));
    };
    if payer < amount {
        return Err(Failure::Refused("not enough money".to_owned()));
    }
    let unchanged = vec![unchanged_since(&keys[0], payer_changed), unchanged_since(&keys[1], payee_changed)];
    let puts = vec![put_op(&keys[0], (payer - amount).to_string()), put_op(&keys[1], (payee + amount).to_string())];
    let response = etcd.txn(unchanged, puts, Vec::new()).await?;
    if !response.succeeded {
        return Err(Failure::Refused("an account changed meanwhile".to_owned()));
    }
    Ok(Answer { revision: response.header.map(|header| unsigned(header.revision)), ..Answer::default() })
}
