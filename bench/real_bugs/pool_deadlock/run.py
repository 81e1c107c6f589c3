import multiprocessing
import os
import signal


def work(n):
    if n == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return sum(i * i for i in range(200000))


def main():
    with multiprocessing.Pool(2) as pool:
        print(pool.map(work, range(20)))


if __name__ == "__main__":
    main()
