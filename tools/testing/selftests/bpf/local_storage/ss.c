// SPDX-License-Identifier: GPL-2.0
/* ss --bpf-maps: what a user of iproute2 sees of socket storage. */
#include "harness.h"
#include "inet_diag.h"

static const struct kind kinds[] = {
	{ AF_INET, IPPROTO_TCP, LISTENING },
	{ AF_INET, IPPROTO_TCP, CONNECTED },
	{ AF_INET6, IPPROTO_TCP, LISTENING },
	{ AF_INET6, IPPROTO_TCP, CONNECTED },
	{ AF_INET, IPPROTO_MPTCP, LISTENING },
	{ AF_INET, IPPROTO_MPTCP, CONNECTED },
	{ AF_INET6, IPPROTO_MPTCP, CONNECTED },
	{ AF_INET, IPPROTO_UDP, BOUND },
	{ AF_INET6, IPPROTO_UDP, BOUND },
	{ AF_INET, IPPROTO_ICMP, BOUND },
	{ AF_INET6, IPPROTO_ICMPV6, BOUND },
};

struct flow {
	__u64 bytes;
	__u32 rtt_us;
	__u32 marks[3];
};

FIXTURE(ss) {
	int sockets[ARRAY_SIZE(kinds)], servers[ARRAY_SIZE(kinds)];
	int ports[ARRAY_SIZE(kinds)];
	int flows, numbers;
};

static struct btf *types_of_flow(void)
{
	struct btf *btf = types_for(3);
	int u64, u32, marks;

	u64 = btf__add_int(btf, "unsigned long long", 8, 0);
	u32 = btf__add_int(btf, "unsigned int", 4, 0);
	marks = btf__add_array(btf, 1, u32, 3);
	btf__add_struct(btf, "flow", sizeof(struct flow));
	btf__add_field(btf, "bytes", u64, 0, 0);
	btf__add_field(btf, "rtt_us", u32, 64, 0);
	btf__add_field(btf, "marks", marks, 96, 0);
	return btf;
}

static char *run_ss(const char *options, int *status)
{
	char command[512], part[512], *text = NULL;
	const char *ss = getenv("SS") ?: "ss";
	size_t len = 0, n;
	FILE *out, *in;

	snprintf(command, sizeof(command), "%s %s 2>&1", ss, options);
	out = open_memstream(&text, &len);
	in = popen(command, "r");
	while ((n = fread(part, 1, sizeof(part), in)))
		fwrite(part, 1, n, out);
	*status = pclose(in);
	fclose(out);
	return text;
}

static bool has_option(void)
{
	int status;
	char *text = run_ss("--help", &status);
	bool has = strstr(text, "--bpf-maps");

	free(text);
	return has;
}

static int port_shown(const struct kind *kind, const struct sockaddr_in6 *addr)
{
	/* Where others have a port, a raw socket has its protocol. */
	return type_of(kind) == SOCK_RAW ? kind->protocol : ntohs(addr->sin6_port);
}

FIXTURE_SETUP(ss)
{
	struct btf *btf = types_of_flow();
	struct spec spec = spec_for(btf, sizeof(struct flow));

	ASSERT_TRUE(has_option())
		TH_LOG("no ss --bpf-maps: install bookworm-backports' iproute2");
	ASSERT_EQ(network_err, 0);
	spec.flags |= place();
	self->flows = create(&spec);
	ASSERT_GE(self->flows, 0);
	btf__free(btf);
	self->numbers = create_with(8, place());
	for (int i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct flow flow = { 1000 + i, 42, { 7, 8, 9 } };
		struct sockaddr_in6 addr, peer;

		self->sockets[i] = open_kind(&kinds[i], &addr, &peer,
					     &self->servers[i]);
		self->ports[i] = port_shown(&kinds[i], &addr);
		ASSERT_EQ(bpf_map_update_elem(self->flows, &self->sockets[i],
					      &flow, 0), 0);
		ASSERT_EQ(update(self->numbers, self->sockets[i], i, 0), 0);
	}
}

FIXTURE_TEARDOWN(ss)
{
	for (int i = 0; i < ARRAY_SIZE(kinds); i++) {
		close(self->sockets[i]);
		close(self->servers[i]);
	}
	close(self->flows);
	close(self->numbers);
}

/* Every socket on a line, but for those that -a leaves to -B. */
#define ALL	"-H -O -n -a -t -u -w -M -i -m"

static void remove_blanks(char *text)
{
	char *to = text;

	do {
		if (*text != ' ' && *text != '\t')
			*to++ = *text;
	} while (*text++);
}

/*
 * A copy of the line of a socket without its blanks, or NULL.  A subflow of
 * MPTCP has the same port as the socket that it is of.
 */
static char *line_of(const char *text, const struct kind *kind, int port)
{
	bool mptcp = kind->protocol == IPPROTO_MPTCP;

	for (; *text; text = strchrnul(text, '\n') + 1) {
		char name[16], local[64], *line;

		if (sscanf(text, "%15s %*s %*s %*s %63s", name, local) != 2)
			return NULL;
		if (atoi(strrchr(local, ':') + 1) != port ||
		    kind->family != (local[0] == '[' ? AF_INET6 : AF_INET) ||
		    !strcmp(name, "mptcp") != mptcp)
			continue;
		line = strndup(text, strchrnul(text, '\n') - text);
		remove_blanks(line);
		return line;
	}
	return NULL;
}

/* As ss prints it, without blanks. */
#define FLOW	"(structflow){.bytes=(unsignedlonglong)%d," \
		".rtt_us=(unsignedint)42,.marks=(unsignedint[3])[7,8,9,],}"

static bool shows_flow(const char *line, __u32 id, int i)
{
	char text[256];

	snprintf(text, sizeof(text), "map_id:%u" FLOW, id, 1000 + i);
	return strstr(line, text);
}

static bool shows_number(const char *line, __u32 id)
{
	char text[64];

	snprintf(text, sizeof(text), "map_id:%u(char[8])[", id);
	return strstr(line, text);
}

static void check_output(struct __test_metadata *_metadata,
			 FIXTURE_DATA(ss) *self, const char *options,
			 bool flows, bool numbers)
{
	int status;
	char *text = run_ss(options, &status);

	EXPECT_EQ(status, 0);
	for (int i = 0; i < ARRAY_SIZE(kinds); i++) {
		/* The base shows values of what has connections. */
		bool shown = kinds[i].state != BOUND || !is_stock();
		char *line = line_of(text, &kinds[i], self->ports[i]);

		ASSERT_NE(line, NULL) TH_LOG("kind %d in\n%s", i, text);
		EXPECT_EQ(shows_flow(line, id_of(self->flows), i),
			  flows && shown) TH_LOG("kind %d: %s", i, line);
		EXPECT_EQ(shows_number(line, id_of(self->numbers)),
			  numbers && shown) TH_LOG("kind %d: %s", i, line);
		free(line);
	}
	free(text);
}

TEST_F(ss, without_the_option_there_are_no_values)
{
	check_output(_metadata, self, ALL, false, false);
}

TEST_F(ss, it_shows_all_maps)
{
	check_output(_metadata, self, ALL " --bpf-maps", true, true);
}

TEST_F(ss, it_shows_one_map)
{
	char options[128];

	snprintf(options, sizeof(options), ALL " --bpf-map-id=%u",
		 id_of(self->flows));
	check_output(_metadata, self, options, true, false);
	snprintf(options, sizeof(options), ALL " --bpf-map-id=%u",
		 id_of(self->numbers));
	check_output(_metadata, self, options, false, true);
}

TEST_F(ss, it_shows_two_maps)
{
	char options[128];

	snprintf(options, sizeof(options),
		 ALL " --bpf-map-id=%u --bpf-map-id=%u",
		 id_of(self->numbers), id_of(self->flows));
	check_output(_metadata, self, options, true, true);
}

TEST_F(ss, a_socket_may_take_many_lines)
{
	static const char expected[] = "[\n(structflow){\n"
		".bytes=(unsignedlonglong)1000,\n.rtt_us=(unsignedint)42,\n"
		".marks=(unsignedint[3])[\n7,\n8,\n9,\n],\n}\n]\n";
	int status;
	char *text = run_ss("-tuniwm -a --bpf-maps", &status);

	EXPECT_EQ(status, 0);
	remove_blanks(text);
	EXPECT_NE(strstr(text, expected), NULL);
	free(text);
}

TEST_F(ss, an_id_of_no_map_is_an_error)
{
	int status;
	char *text = run_ss("-t -a -n --bpf-map-id=4000000000", &status);

	EXPECT_NE(status, 0);
	EXPECT_NE(strstr(text, "cannot get fd"), NULL) TH_LOG("%s", text);
	free(text);
}

TEST_HARNESS_MAIN
