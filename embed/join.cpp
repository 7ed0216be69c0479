#include "embed/join.hpp"

namespace embed {

bool join(Stack& a, const std::string& a_address, Stack& b, const std::string& b_address,
    drivers::SimLinkOptions options, drivers::SimLink& link, std::string& error)
{
    options.a.steering = &a.protocols().steering();
    options.b.steering = &b.protocols().steering();
    link = drivers::make_sim_link(options);
    return a.add_interface(std::move(link.a), {a_address}, error) &&
           b.add_interface(std::move(link.b), {b_address}, error);
}

} // namespace embed
