// How a weight gradient is cut into equal shares, one a CTA, whatever the pattern (work-centric, as stream-K cuts GEMMs).
// Row i of L slots is cut into ceil(L / TOGETHER) groups of neighbouring slots, as equal as can be. One stage (64 tokens)
// of a group of k slots costs 1 + k loads. Laid end to end, groups in order and the stages of each in order, the costs
// form one line; CTA c takes the stages that start in its c-th part of `ctas` equal parts. So a CTA works on a run of
// whole groups with at most one unfinished group at either end.
#pragma once
#include "dtype.cuh"

constexpr int TOGETHER = BLOCK == 128 ? 2 : 8;
constexpr int MOST_ROWS = 960;

struct Group {
  int first, length;  // slots
  long long before;   // cost of one stage of all groups before it
};
struct Range {
  int begin, end;  // stages
};
struct Line {
  long long cost;  // of one stage of all groups
  int stages, ctas;
};

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
  return {stages_before(line, group, cta), stages_before(line, group, cta + 1)};
}
// Where a CTA leaves the float32 sums of an unfinished group: one place for that it begins with, one for its last.
__device__ inline long long place_of(int cta, const Range &range) {
  return (long long)(2 * cta + (range.begin > 0 ? 0 : 1)) * TOGETHER * AREA;
}
