"""A name server that keeps silent until it is told otherwise, in a network of its own. Needs root."""

import concurrent.futures
import ctypes
import os
import socket
import struct
import threading

from .network import LIBC, Namespace, enter

CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
TYPE_A = 1


def call(function, *arguments):
    if function(*arguments):
        raise OSError(ctypes.get_errno(), function.__name__)


class MuteNameServer(Namespace):
    """A network whose name server receives questions and answers none. Every name has the address 127.0.0.1."""

    def __init__(self, folder):
        super().__init__()
        self.resolv_conf = folder.write("resolv.conf", "nameserver 127.0.0.1\n", mode=0o644)
        self.thread = concurrent.futures.ThreadPoolExecutor(1)
        self.questions = self.run(self.move_in)
        self.speaks, self.stopped = threading.Event(), threading.Event()
        self.answering = threading.Thread(target=self.answer)
        self.answering.start()

    def move_in(self):
        """The only thread of the pool stays in the network, and has a view of the files with its own resolv.conf."""
        with open(f"/proc/{self.pid}/ns/net") as network:
            enter(network)
        call(LIBC.unshare, CLONE_NEWNS)
        call(LIBC.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        call(LIBC.mount, os.fsencode(self.resolv_conf), b"/etc/resolv.conf", None, MS_BIND, None)
        questions = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        questions.bind(("127.0.0.1", 53))
        questions.settimeout(0.1)
        return questions

    def run(self, function):
        """What it starts lives in the network."""
        return self.thread.submit(function).result(60)

    def answer(self):
        """Reads questions from the start, and answers those that arrive once it speaks."""
        while not self.stopped.is_set():
            try:
                question, asker = self.questions.recvfrom(512)
            except TimeoutError:
                continue
            if self.speaks.is_set():
                end = question.index(b"\0", 12) + 5
                (kind,) = struct.unpack("!H", question[end - 4 : end - 2])
                record = b"\xc0\x0c" + struct.pack("!HHIH4B", TYPE_A, 1, 0, 4, 127, 0, 0, 1)
                records = [record] if kind == TYPE_A else []
                head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, len(records), 0, 0)
                self.questions.sendto(head + question[12:end] + b"".join(records), asker)

    def stop(self):
        self.stopped.set()
        self.answering.join()
        self.questions.close()
        self.thread.shutdown()
        super().stop()
