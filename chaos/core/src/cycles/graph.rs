//! A graph of dependencies, its strongly connected parts, and shortest cycles in them.

use std::collections::VecDeque;

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Its append comes before the other's in a list.
    WriteWrite,
    /// The other read its append.
    WriteRead,
    /// It did not see the other's append.
    ReadWrite,
    /// It ended before the other began.
    RealTime,
    /// From one moment to the next; costs nothing in a path.
    Moment,
}

impl Kind {
    /// As Adya writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::WriteWrite => "ww",
            Self::WriteRead => "wr",
            Self::ReadWrite => "rw",
            Self::RealTime | Self::Moment => "rt",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) to: usize,
    pub(super) kind: Kind,
    /// The list it is about.
    pub(super) key: u32,
}

/// One step of a path.
pub(super) type Hop = (usize, Edge);

#[derive(Debug, Default)]
pub(super) struct Graph {
    edges: Vec<Vec<Edge>>,
}

impl Graph {
    pub(super) fn with_nodes(count: usize) -> Self {
        Self { edges: vec![Vec::new(); count] }
    }

    pub(super) fn add_node(&mut self) -> usize {
        self.edges.push(Vec::new());
        self.edges.len() - 1
    }

    /// An edge between different nodes.
    pub(super) fn connect(&mut self, from: usize, to: usize, kind: Kind, key: u32) {
        if from != to {
            self.edges[from].push(Edge { to, kind, key });
        }
    }

    pub(super) fn from(&self, node: usize) -> &[Edge] {
        &self.edges[node]
    }

    /// Parts of more than one node in which every node reaches every other by allowed edges (Tarjan 1972, without
    /// recursion).
    pub(super) fn connected_parts(&self, allowed: impl Fn(Kind) -> bool) -> Vec<Vec<usize>> {
        const UNSEEN: usize = usize::MAX;
        let count = self.edges.len();
        let (mut index, mut low, mut on_stack) = (vec![UNSEEN; count], vec![0; count], vec![false; count]);
        let (mut stack, mut parts, mut next) = (Vec::new(), Vec::new(), 0);
        for root in 0..count {
            let mut work: Vec<(usize, usize)> = if index[root] == UNSEEN { vec![(root, 0)] } else { Vec::new() };
            while let Some((node, edge)) = work.pop() {
                if edge == 0 {
                    (index[node], low[node], on_stack[node]) = (next, next, true);
                    stack.push(node);
                    next += 1;
                } else {
                    low[node] = low[node].min(low[self.edges[node][edge - 1].to]);
                }
                let mut at = edge;
                let deeper = loop {
                    let Some(edge) = self.edges[node].get(at) else { break None };
                    at += 1;
                    if !allowed(edge.kind) {
                        continue;
                    }
                    if index[edge.to] == UNSEEN {
                        break Some(edge.to);
                    }
                    if on_stack[edge.to] {
                        low[node] = low[node].min(index[edge.to]);
                    }
                };
                if let Some(child) = deeper {
                    work.push((node, at));
                    work.push((child, 0));
                } else if low[node] == index[node] {
                    let start = stack.iter().rposition(|other| *other == node).expect("a root is on the stack");
                    let part = stack.split_off(start);
                    part.iter().for_each(|member| on_stack[*member] = false);
                    if part.len() > 1 {
                        parts.push(part);
                    }
                }
            }
        }
        parts
    }

    /// The path with the fewest hops between transactions, by allowed edges inside `inside`.
    pub(super) fn shortest_path(
        &self,
        from: usize,
        to: usize,
        inside: &[bool],
        allowed: impl Fn(Kind) -> bool,
    ) -> Option<Vec<Hop>> {
        let mut came: Vec<Option<Hop>> = vec![None; self.edges.len()];
        let mut done = vec![false; self.edges.len()];
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            if std::mem::replace(&mut done[node], true) {
                continue;
            }
            if node == to {
                break;
            }
            for edge in self.edges[node].iter().filter(|edge| allowed(edge.kind) && inside[edge.to] && !done[edge.to]) {
                let free = edge.kind == Kind::Moment;
                if came[edge.to].is_none() || free {
                    came[edge.to] = Some((node, *edge));
                }
                if free { queue.push_front(edge.to) } else { queue.push_back(edge.to) }
            }
        }
        let mut path = Vec::new();
        let mut node = to;
        while node != from {
            let hop = came[node]?;
            node = hop.0;
            path.push(hop);
        }
        path.reverse();
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(usize, usize, Kind)]) -> Graph {
        let mut graph = Graph::with_nodes(6);
        for (from, to, kind) in edges {
            graph.connect(*from, *to, *kind, 0);
        }
        graph
    }

    #[test]
    fn parts_are_what_reaches_itself() {
        use Kind::{ReadWrite, WriteWrite};
        let graph = graph(&[
            (0, 1, WriteWrite),
            (1, 2, WriteWrite),
            (2, 0, ReadWrite),
            (2, 3, WriteWrite),
            (3, 4, WriteWrite),
            (4, 3, WriteWrite),
            (5, 5, WriteWrite),
        ]);
        let sorted = |allowed: fn(Kind) -> bool| {
            let mut parts = graph.connected_parts(allowed);
            parts.iter_mut().for_each(|part| part.sort_unstable());
            parts.sort();
            parts
        };
        assert_eq!(sorted(|_| true), [vec![0, 1, 2], vec![3, 4]]);
        assert_eq!(sorted(|kind| kind == WriteWrite), [vec![3, 4]]);
    }

    #[test]
    fn moments_cost_nothing() {
        use Kind::{Moment, RealTime, WriteRead};
        let graph = graph(&[
            (0, 1, WriteRead),
            (1, 2, WriteRead),
            (2, 5, WriteRead),
            (0, 3, RealTime),
            (3, 4, Moment),
            (4, 5, RealTime),
        ]);
        let path = graph.shortest_path(0, 5, &[true; 6], |_| true).unwrap();
        assert_eq!(path.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [0, 3, 4]);
        assert_eq!(graph.shortest_path(5, 0, &[true; 6], |_| true), None);
    }
}
