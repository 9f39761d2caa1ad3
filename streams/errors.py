"""The tree of what makes the shell refuse to start or to go on."""

from __future__ import annotations


class ShellError(Exception):
    """The shell cannot do what it was asked. Commands print the message and exit with 2."""


class SettingsError(ShellError):
    """A setting is unknown or has an impossible value.

    Operator: correct the environment variable that the message names.
    """


class StaleBuildError(ShellError):
    """Compiled modules are not of the sources beside them.

    Operator: run ``make setup``, which compiles them again. Nothing was started.
    """


class BrokerUnavailableError(ShellError):
    """No broker answered.

    Operator: start the broker, or correct ``JOURNEY_KAFKA_URL``. Nothing was changed.
    """


class FaustVersionError(ShellError):
    """The installed Faust is not the one whose defects are worked around.

    Operator: install the locked dependencies again (`make setup`).
    """


class TopicConflictError(ShellError):
    """A topic exists with other partitions or settings than the journey needs.

    Operator: keep the topic. Change its settings as the message says; a
    partition count cannot be changed under a journal: use another prefix.
    """


class UnknownTopicError(ShellError):
    """The broker does not know a topic that is read here, or not yet.

    Operator: nothing, after a restart of the broker: the process leaves, and
    its successor asks again. If it comes again and again, a topic was
    deleted: see what `journey topics check` says.
    """


class LogTruncatedError(ShellError):
    """A log ends before what was already applied from it: it was recreated or cut.

    Operator: keep the customer table and stop. Restore the topic, or start
    under another prefix; new records at old offsets would be skipped in silence.
    """


class PoisonFloodError(ShellError):
    """Many entries of one group cannot be folded: that is a defect of this version, not of the data.

    Operator: nothing was skipped and nothing is lost. Start the last version
    that worked, and report what the log says.
    """


class ForeignWriteError(ShellError):
    """Somebody else appended to a changelog partition that is ours: they or we are a zombie.

    Operator: nothing. The process leaves and its successor goes on; if it
    happens again and again, two workers run without the same consumer group.
    """


class TableRecordError(ShellError):
    """A record in the changelog of the customer table is none of ours.

    Operator: keep the topic, and stop whatever else writes to it. The journal
    has everything: fold it anew under another prefix.
    """


class EpochError(ShellError):
    """A new epoch cannot be built, switched to or discarded now.

    Operator: do what the message says. The live epoch is as it was.
    """


class RawCutError(ShellError):
    """Retention took raw records that a rebuilt journal needs.

    Operator: rebuild with ``--from-cut``, which takes what is gone from the
    live journal; or keep that journal (``journey upgrade`` folds it anew); or
    rebuild from what is left with ``--partial``.
    """


class SnapshotError(ShellError):
    """A snapshot of a model cannot be used: it is not what its envelope says, or is worth nothing.

    Operator: nothing, as a rule: the version before stays in force. If it comes
    again and again, look at ``journey models`` and report what the log says.
    """


class SignatureError(SnapshotError):
    """A snapshot of a model is not signed with a key of ours: it was not even decoded.

    Operator: give all workers the same ``JOURNEY_MODEL_KEY``. After a change of
    the key keep the one before as ``JOURNEY_MODEL_KEY_OLD`` for as long as
    versions signed with it are adopted. If the keys are right, find out who
    else writes to ``journey.models``.
    """


class CheckpointError(ShellError):
    """What a learner had learned is not there any more, or is of a newer version of this program.

    Operator: keep the topics. Restore ``journey.checkpoints`` from a backup, or
    start the version of the worker that wrote it. Else stop the role ``learn``
    and delete its consumer group: it learns anew from all samples that are
    kept; versions that were published stay as they are.
    """


class SlotError(ShellError):
    """A slot cannot get the version that was asked for.

    Operator: do what the message says. What is in force is as it was.
    """


class RevokedError(ShellError):
    """A partition was taken away while something of it was still being folded.

    Operator: nothing. The process leaves, its successor folds the same pages
    again; if it happens often, raise ``JOURNEY_SESSION_TIMEOUT``.
    """


class StoreError(ShellError):
    """The store of the customer table on this machine's disk cannot be used.

    Operator: do what the message says: room on the disk, rights to the folder,
    or another folder. The store is a copy of the changelog: deleting the
    folder while no worker runs loses nothing, the next start reads it anew.
    """


class StoreInUseError(StoreError):
    """Another worker on this machine uses the same store.

    Operator: give each worker of the engine a ``JOURNEY_DATADIR`` of its own,
    the same one after a restart. If the other one hangs, end it first.
    """


class StoreDamagedError(StoreError):
    """The store on this machine's disk cannot be read back: files are missing or torn.

    Operator: start the worker again: it sees the damage, says so, and makes
    the store anew from the changelog. Look at the disk.
    """

    def __init__(self, partition: int, text: str) -> None:
        self.partition = partition
        super().__init__(text)


class StuckError(ShellError):
    """Records wait and nothing is done of them, or the event loop does not turn.

    Operator: nothing, if the next start goes on. If it happens again and
    again, look whether the broker answers, and report where the message says
    that it waits. ``JOURNEY_STUCK_AFTER`` sets how long nothing may happen.
    """


class NotFoundError(ShellError):
    """Nothing is known under this id."""


class FileFormatError(ShellError):
    """A file to load is not what it says: empty, a column is missing, or not readable."""
