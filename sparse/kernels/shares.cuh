// How a weight gradient is cut into equal shares, one a CTA, whatever the pattern (work-centric, as stream-K cuts GEMMs).
// Row i of L slots is cut into ceil(L / TOGETHER) groups of neighbouring slots, as equal as can be. One stage (64 tokens)
// of a group of k slots costs 1 + k loads. Laid end to end, groups in order and the stages of each in order, the costs
// form one line; CTA c takes the stages that start in its c-th part of `ctas` equal parts. So a CTA works on a run of
// whole groups with at most one unfinished group at either end. Where grad and x are larger than L2, the tokens are cut
// into chunks that are not, and every chunk has a line of its own: all CTAs are then at work on the same tokens.
#pragma once
#include "dtype.cuh"

constexpr int TOGETHER = BLOCK == 128 ? 2 : 8;

struct Group {
  int first, length;  // slots
  long long before;   // cost of one stage of all groups before it
};
struct Range {
  int begin, end, first;  // stages of a chunk, which begins with stage `first`
};
struct Line {
  long long cost;  // of one stage of all groups
  int stages, first, ctas;  // stages of this chunk, and the first of them
};

__device__ inline int stages_of(long long tokens) { return int((tokens + 63) / 64); }
// The line of a chunk of `per_chunk` stages; the last chunk may have fewer.
__device__ inline Line line_of(long long cost, long long tokens, int per_chunk, int chunk, int ctas) {
  const int first = chunk * per_chunk, left = stages_of(tokens) - first;
  return {cost, left < per_chunk ? left : per_chunk, first, ctas};
}

__device__ inline int groups_in(int slots) { return (slots + TOGETHER - 1) / TOGETHER; }
// The j-th group of a row that starts at slot `start` and holds `slots`; `groups`: how many lie in the rows before.
__device__ inline Group group_of(int start, int slots, int groups, int j) {
  const int count = groups_in(slots), low = int((long long)slots * j / count), high = int((long long)slots * (j + 1) / count);
  return {start + low, high - low, (long long)start + low + groups + j};
}
// Where the part of a CTA begins on the line.
__device__ inline long long edge(const Line &line, int cta) {
  return (line.cost * line.stages * cta + line.ctas - 1) / line.ctas;
}
// The stages of a group that start in the part of `cta`.
__device__ inline int stages_before(const Line &line, const Group &group, int cta) {
  const long long weight = group.length + 1, at = edge(line, cta) - group.before * line.stages;
  const long long stage = (at + weight - 1) / weight;
  return at <= 0 ? 0 : stage > line.stages ? line.stages : int(stage);
}
__device__ inline Range range_of(const Line &line, const Group &group, int cta) {
  return {stages_before(line, group, cta), stages_before(line, group, cta + 1), line.first};
}
// Where a CTA leaves its float32 sums of a group, from the group's first slot on. Along a line either the CTA or the group
// advances, so nothing overlaps in partial (chunks, TOGETHER ctas + capacity, b, b).
__device__ inline long long place_of(int cta, int ctas, int capacity, int chunk, int first) {
  return ((long long)chunk * (TOGETHER * ctas + capacity) + TOGETHER * cta + first) * AREA;
}
