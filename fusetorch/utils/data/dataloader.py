"""DataLoader: batches of a dataset, in order, prefetched by threads if wanted."""
from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Generic, TypeVar

import fusetorch as torch
from fusetorch.errors import warn
from fusetorch.tensor import Tensor
from fusetorch.utils.data.collate import default_collate, default_convert
from fusetorch.utils.data.dataset import Dataset, IterableDataset, Subset, TensorDataset
from fusetorch.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler

T = TypeVar("T", covariant=True)
_END = object()
_worker = threading.local()
_FIXED = {"batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"}


@dataclass(frozen=True)
class WorkerInfo:
    """Which worker this is: ``id`` of ``num_workers``, its ``seed``, and the ``dataset`` (shared by all)."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


def get_worker_info() -> WorkerInfo | None:
    """In a worker of a DataLoader, which one it is; elsewhere None."""
    return getattr(_worker, "info", None)


class _BaseDataLoaderIter:
    """The class of PyTorch's iterators over a DataLoader. Here they are generators, and nothing is one."""


class _SingleProcessDataLoaderIter(_BaseDataLoaderIter):
    """Without worker processes."""


class _MultiProcessingDataLoaderIter(_BaseDataLoaderIter):
    """With worker processes."""


class DataLoader(Generic[T]):
    """Iterates over a dataset in batches.

    Args:
        dataset: indexable, or an :class:`IterableDataset`.
        batch_size: samples a batch; None hands out single samples.
        shuffle: a new random order at each pass.
        sampler: draws the indices, in place of ``shuffle``.
        batch_sampler: draws lists of indices, in place of batch_size, shuffle, sampler and drop_last.
        num_workers: threads that load ahead; batches come in the same order with any number. Workers are threads of this
            process: datasets are shared, not copied, and ``torch``'s random numbers come from one stream.
        collate_fn: joins a list of samples to a batch; by default :func:`default_collate`.
        drop_last: leave out a last batch that is not full.
        timeout: seconds to wait for a worker's batch before ``RuntimeError``; 0 waits for ever.
        worker_init_fn: called in each worker with its number, before anything is loaded.
        generator: random numbers for ``shuffle``.
        prefetch_factor: batches that each worker loads ahead, 2 by default.
        pin_memory, pin_memory_device, persistent_workers, multiprocessing_context, in_order: taken for compatibility.

    Example:
        >>> import fusetorch as torch
        >>> data = torch.utils.data.TensorDataset(torch.arange(5))
        >>> [batch.tolist() for (batch,) in torch.utils.data.DataLoader(data, batch_size=2)]
        [[0, 1], [2, 3], [4]]
    """

    _initialized = False

    def __init__(self, dataset: Dataset[T], batch_size: int | None = 1, shuffle: bool | None = None,
                 sampler: Iterable | None = None, batch_sampler: Iterable[list] | None = None, num_workers: int = 0,
                 collate_fn: Callable[[list], Any] | None = None, pin_memory: bool = False, drop_last: bool = False,
                 timeout: float = 0, worker_init_fn: Callable[[int], None] | None = None,
                 multiprocessing_context: Any = None, generator: torch.Generator | None = None, *,
                 prefetch_factor: int | None = None, persistent_workers: bool = False, pin_memory_device: str = "",
                 in_order: bool = True) -> None:
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError("prefetch_factor option could only be specified in multiprocessing. let num_workers > 0 to enable "
                             "multiprocessing, otherwise set prefetch_factor to None.")
        if prefetch_factor is not None and prefetch_factor < 0:
            raise ValueError("prefetch_factor option should be non-negative")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable:
            for name, value in (("shuffle", shuffle or None), ("sampler", sampler), ("batch_sampler", batch_sampler)):
                if value is not None:
                    raise ValueError(f"DataLoader with IterableDataset: expected unspecified {name} option, but got "
                                     f"{name}={value}")
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last")
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None and not self._iterable:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None:
            # a stream has no indices: its batches are cut by count
            batch_sampler = BatchSampler(cycle([None]) if self._iterable else sampler, batch_size, drop_last)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if num_workers > cores:
            warn(f"This DataLoader will create {num_workers} worker processes in total. Our suggested max number of worker in current "
                 f"system is {cores}, which is smaller than what this DataLoader is going to create. Please be aware that excessive worker "
                 "creation might get DataLoader running slow or even freeze, lower the worker number to avoid potential slowness/freeze if "
                 "necessary.")
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.generator = generator
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)
        self._initialized = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self._initialized and name in _FIXED:
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        if not self._iterable:
            return len(self.sampler if self.batch_sampler is None else self.batch_sampler)
        n = len(self.dataset)
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        if self.num_workers:
            return self._threaded()
        return self._stream() if self._iterable else map(self._fetcher(), self._wanted())

    def _wanted(self) -> Iterator[Any]:
        """What each batch is made of: a list of indices, or one index."""
        return iter(self.sampler if self.batch_sampler is None else self.batch_sampler)

    def _fetcher(self) -> Callable[[Any], Any]:
        """From indices to a batch."""
        dataset, collate = self.dataset, self.collate_fn
        if self.batch_sampler is None:
            return lambda index: collate(dataset[index])
        if collate is default_collate:
            whole = _whole_batches(dataset)
            if whole is not None:
                return whole
        if callable(getattr(dataset, "__getitems__", None)):
            return lambda indices: collate(dataset.__getitems__(indices))
        return lambda indices: collate([dataset[i] for i in indices])

    def _stream(self) -> Iterator[Any]:
        """The batches of an IterableDataset."""
        samples = iter(self.dataset)
        if self.batch_size is None:
            yield from map(self.collate_fn, samples)
            return
        while batch := list(islice(samples, self.batch_size)):
            if self.drop_last and len(batch) < self.batch_size:
                return
            yield self.collate_fn(batch)

    def _threaded(self) -> Iterator[Any]:
        """Batch i is loaded by worker i modulo their number, each a thread of its own, a few batches ahead."""
        seed = int(torch.randint(0, 2 ** 31, (), generator=self.generator).item())
        workers = [ThreadPoolExecutor(1, "DataLoader") for _ in range(self.num_workers)]
        tasks = self._stream_tasks(workers) if self._iterable else self._map_tasks(workers)
        try:
            for start in [worker.submit(self._start_worker, i, seed) for i, worker in enumerate(workers)]:
                start.result()
            waiting: deque[Future] = deque(islice(tasks, max(1, self.prefetch_factor) * self.num_workers))
            while waiting:
                batch = self._result(waiting.popleft())
                waiting.extend(islice(tasks, 1))
                if batch is not _END:
                    yield batch
        finally:
            for worker in workers:
                worker.shutdown(wait=False, cancel_futures=True)

    def _start_worker(self, i: int, seed: int) -> None:
        _worker.info = WorkerInfo(i, self.num_workers, seed + i, self.dataset)
        _worker.stream = self._stream() if self._iterable else None
        if self.worker_init_fn is not None:
            self.worker_init_fn(i)

    def _map_tasks(self, workers: list[ThreadPoolExecutor]) -> Iterator[Future]:
        fetch = self._fetcher()
        for worker, wanted in zip(cycle(workers), self._wanted()):
            yield worker.submit(fetch, wanted)

    def _stream_tasks(self, workers: list[ThreadPoolExecutor]) -> Iterator[Future]:
        ended: set[int] = set()

        def take(i: int) -> Any:
            batch = next(_worker.stream, _END)
            if batch is _END:
                ended.add(i)
            return batch

        for i in cycle(range(len(workers))):
            if len(ended) == len(workers):
                return
            if i not in ended:
                yield workers[i].submit(take, i)

    def _result(self, future: Future) -> Any:
        try:
            return future.result(self.timeout or None)
        except FutureTimeout:
            if future.done():
                raise
            raise RuntimeError(f"DataLoader timed out after {self.timeout} seconds") from None


def _whole_batches(dataset: Any) -> Callable[[list[int]], list[Tensor]] | None:
    """For tensors, and subsets of them: index all rows of a batch at once, with the same result as row by row."""
    chain = []
    while type(dataset) is Subset:
        chain.append(dataset.indices)
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset:
        return None
    tensors = dataset.tensors

    def fetch(indices: list[int]) -> list[Tensor]:
        for mapped in chain:
            indices = [mapped[i] for i in indices]
        rows = torch.tensor(indices, dtype=torch.int64)
        return [t[rows.to(t.device)] for t in tensors]

    return fetch
