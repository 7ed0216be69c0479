"""iperf3, unmodified, in both directions: one and eight TCP streams, and UDP."""

from harness import SystemTest, main, workload

PORT = 5201


class Iperf(SystemTest):
    def each_direction(self, **options):
        for server, client in self.directions():
            for reverse in (False, True):
                with self.subTest(server=server.name, client=client.name, reverse=reverse):
                    with self.serving(server, workload.iperf3_server(server, PORT), PORT, client):
                        workload.iperf3(client, server.address, PORT, seconds=2, reverse=reverse, **options)

    def test_one_stream(self):
        self.each_direction()

    def test_eight_streams(self):
        self.each_direction(streams=8)

    def test_udp(self):
        for server, client in self.directions():
            for reverse in (False, True):
                with self.subTest(server=server.name, client=client.name, reverse=reverse):
                    with self.serving(server, workload.iperf3_server(server, PORT), PORT, client):
                        # 20 Mbit/s is far below what any of them can do: nearly all that is sent has to arrive.
                        sent, lost = workload.iperf3(client, server.address, PORT, seconds=2, reverse=reverse, udp=True, rate="20M")
                        self.assertGreater(sent, 0)
                        self.assertLess(lost, 5)


if __name__ == "__main__":
    main()
